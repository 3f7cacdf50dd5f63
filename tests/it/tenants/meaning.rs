//! What the settings of tenants mean, for whoever may ask.

use anyhow::{Context as _, Result};
use lipsync::{client::Client, v1};
use tonic::Code;

use super::{A, ADMIN, server};

async fn explain(
    client: &Client,
    tenant: &str,
) -> Result<v1::ExplainTenantsResponse, tonic::Status> {
    let request = v1::ExplainTenantsRequest {
        tenant_id: tenant.into(),
    };
    let answer = client.server_admin().explain_tenants(request).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn administrators_are_told_of_all_and_others_of_themselves() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let quotas = "max_sessions: 500, frames_per_second: 1000";
    let server = server(folder.path(), quotas, "").await?;
    let (a, admin) = (
        server.client_with(A).await?,
        server.client_with(ADMIN).await?,
    );
    let ids = |answer: &v1::ExplainTenantsResponse| -> Vec<String> {
        let tenants = answer.tenants.iter();
        tenants.map(|tenant| tenant.tenant_id.clone()).collect()
    };
    let all = explain(&admin, "").await?;
    assert_eq!(
        (ids(&all), all.n_tenants),
        (vec!["a".into(), "admin".into(), "b".into()], 3)
    );
    let own = explain(&a, "").await?;
    assert_eq!((ids(&own), own.n_tenants), (vec!["a".to_owned()], 1));
    assert_eq!(explain(&a, "a").await?, own);
    assert_eq!(explain(&admin, "a").await?.tenants, own.tenants);
    for other in ["b", "nobody"] {
        let refused = explain(&a, other).await.expect_err("not its own");
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
    let unknown = explain(&admin, "nobody").await.expect_err("unknown");
    assert_eq!(unknown.code(), Code::NotFound, "{unknown}");

    let told = &own.tenants[0];
    assert_eq!(told.model_ids, ["a"]);
    assert!(
        told.rights.starts_with("a; keys now, old; weight 1 (33 %"),
        "{}",
        told.rights
    );
    assert!(
        told.contradictions
            .iter()
            .any(|text| text.starts_with("max_sessions 500"))
    );
    // The model is in memory, and its warm-up was measured.
    let capacity = told.capacity.as_ref().context("a capacity")?;
    assert_eq!(capacity.model_id, "a");
    assert!(capacity.conversations_busy <= capacity.conversations_alone);
    Ok(())
}

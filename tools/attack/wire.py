"""Protobuf by hand: bytes that no generated code would write, and no need for it in an attacker's process."""


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def number(field, value):
    return varint(field << 3) + varint(value)


def text(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


# StreamCompositeRequest with an OpenSession for mira, PCM at 16 kHz.
OPEN = text(1, text(1, "mira") + number(3, 16000))
INFER = "/lipsync.v1.LipSync/InferBatchComposite"
BACKGROUND = "/lipsync.v1.LipSync/GetBackground"
STREAM = "/lipsync.v1.LipSync/StreamComposite"
INFER_STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
LOAD = "/lipsync.v1.ModelAdmin/LoadModel"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
WATCH_STATS = "/lipsync.v1.ServerAdmin/WatchServerStats"
REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
# Frames by the protocols of other servers.
LEGACY_INFER = tuple(
    f"/{service}/InferBatchComposite"
    for service in (
        "lipsync.MultiTenantLipSync",
        "monolithic.MonolithicService",
        "compositing.CompositingService",
    )
)
MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
# Every method whose messages are small.
SMALL_METHODS = (
    "/lipsync.v1.ModelAdmin/ListModels",
    LOAD,
    "/lipsync.v1.ModelAdmin/UnloadModel",
    "/lipsync.v1.ModelAdmin/GetModelStats",
    "/lipsync.v1.ServerAdmin/GetServerStats",
    "/lipsync.v1.ServerAdmin/ExplainTenants",
    WATCH_STATS,
    "/grpc.health.v1.Health/Check",
    HEALTH_WATCH,
    REFLECTION,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
    *(
        f"/inference.GRPCInferenceService/{method}"
        for method in (
            "ServerLive",
            "ModelReady",
            "ModelMetadata",
            "ModelConfig",
            "RepositoryIndex",
        )
    ),
    *(
        f"/{service}/{method}"
        for service in ("lipsync.MultiTenantLipSync", "monolithic.MonolithicService")
        for method in ("ListModels", "LoadModel", "GetModelStats", "Health")
    ),
)

//! The bytes were written by Python 3.12 and NumPy 2.4.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let text = std::str::from_utf8(pair).expect("ASCII");
        u8::from_str_radix(text, 16).expect("hexadecimal")
    };
    digits.map(byte).collect()
}

fn list(values: &[i64]) -> Value {
    Value::List(values.iter().map(|&value| Value::Int(value)).collect())
}

#[test]
fn lists_of_tuples_are_read_in_every_protocol() {
    let expected = Value::List(vec![list(&[1, 2, 300, 70_000]), list(&[-5, 6, 7, 8])]);
    for hex in [
        "286c70300a2849310a49320a493330300a4937303030300a7470310a6128492d350a49360a49370a49380a7470320a612e",
        "5d710028284b014b024d2c014a70110100747101284afbffffff4b064b074b08747102652e",
        "80025d710028284b014b024d2c014a70110100747101284afbffffff4b064b074b08747102652e",
        "80049522000000000000005d9428284b014b024d2c014a701101007494284afbffffff4b064b074b087494652e",
    ] {
        assert_eq!(read(&bytes(hex)), Ok(expected.clone()), "{hex}");
    }
    // One tuple twice, and floats.
    let twice = read(&bytes(
        "80049512000000000000005d9428284b014b024b034b0474946801652e",
    ));
    assert_eq!(
        twice,
        Ok(Value::List(vec![list(&[1, 2, 3, 4]), list(&[1, 2, 3, 4])]))
    );
    let floats = read(b"(lp0\n(F1.5\nF-2.0\ntp1\na.");
    let expected = Value::List(vec![Value::List(vec![
        Value::Float(1.5),
        Value::Float(-2.0),
    ])]);
    assert_eq!(floats, Ok(expected));
}

#[test]
fn integers_of_numpy_are_read_without_it() {
    let expected = Value::List(vec![list(&[10, -3]), list(&[7, 4])]);
    for hex in [
        "80035d710028636e756d70792e5f636f72652e6d756c746961727261790a7363616c61720a7101636e756d70790a64747970650a710258020000006938\
         71038988877104527105284b0358010000003c71064e4e4e4affffffff4affffffff4b007471076243080a00000000000000710886710952710a68\
         0168054308fdffffffffffffff710b86710c52710d86710e6801680543080700000000000000710f8671105271114b04867112652e",
        "8004959a000000000000005d94288c166e756d70792e5f636f72652e6d756c74696172726179948c067363616c61729493948c056e756d7079948c05\
         64747970659493948c02693894898887945294284b038c013c944e4e4e4affffffff4affffffff4b0074946243080a000000000000009486945294\
         680368094308fdffffffffffffff94869452948694680368094308070000000000000094869452944b048694652e",
    ] {
        let hex: String = hex.split_whitespace().collect();
        assert_eq!(read(&bytes(&hex)), Ok(expected.clone()));
    }
}

#[test]
fn what_could_run_is_refused_and_not_run() {
    for (hex, expected) in [
        // os.system("id"), in three protocols.
        (
            "286c70300a63706f7369780a73797374656d0a70310a285669640a70320a7470330a5270340a612e",
            "names a function",
        ),
        (
            "80025d710063706f7369780a73797374656d0a7101580200000069647102857103527104612e",
            "names a function",
        ),
        (
            "80049520000000000000005d948c05706f736978948c0673797374656d9493948c0269649485945294612e",
            "names a function",
        ),
        // A dictionary, and an array of NumPy.
        ("80049508000000000000007d944b014b02732e", "DICT"),
        (
            "8004956c000000000000008c166e756d70792e5f636f72652e6d756c74696172726179948c0c5f7265636f6e73747275637494932e",
            "names a function",
        ),
    ] {
        let error = read(&bytes(hex)).expect_err(hex);
        assert!(error.contains(expected), "{error}");
    }
    for operation in [
        b'o', b'i', 0x81, 0x92, 0x82, b'P', b'}', 0x8F, 0x96, 0xFF, b'R', b'b',
    ] {
        assert!(
            read(&[0x80, 4, b']', operation, b'.']).is_err(),
            "{operation:#x}"
        );
    }
}

#[test]
fn bombs_and_halves_are_refused() {
    // Each level holds the one before ten times: 10^9 values in a few bytes.
    let mut bomb = vec![0x80, 4, b'K', 1, b'q', 0];
    for level in 0..9_u8 {
        bomb.push(b'(');
        bomb.extend([b'h', level].repeat(10));
        bomb.extend([b't', b'q', level + 1]);
    }
    bomb.push(b'.');
    let error = read(&bomb).expect_err("a bomb");
    assert!(
        error.contains("more than") || error.contains("deep"),
        "{error}"
    );
    let deep = [&b"]".repeat(40)[..], &b"a".repeat(39)[..], b"."].concat();
    assert!(read(&deep).expect_err("deep").contains("deep"));
    let good =
        bytes("80025d710028284b014b024d2c014a70110100747101284afbffffff4b064b074b08747102652e");
    for end in 0..good.len() {
        assert!(read(&good[..end]).is_err(), "{end}");
    }
    // A list that holds itself.
    assert!(read(&[b']', b'q', 0, b'h', 0, b'a', b'.']).is_err());
    assert!(
        read(&[b'X', 0xFF, 0xFF, 0xFF, 0xFF])
            .expect_err("text")
            .contains("text")
    );
}

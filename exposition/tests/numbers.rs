//! Numbers as Go reads and writes them; expectations are what Go 1.26 printed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use promferry_exposition::go_float::{
    NumberError, format, format_decimal, format_openmetrics, parse, parse_value,
};

#[test]
fn parsing_in_full() {
    for (text, expected) in [
        ("1_0", Ok(10.0)),
        ("1_0.5", Ok(10.5)),
        ("1e1_0", Ok(1e10)),
        ("0x1p-2", Ok(0.25)),
        ("0x_1p-2", Ok(0.25)),
        ("-0X1.8P1", Ok(-3.0)),
        ("0x1_2.3p1_0", Ok(18624.0)),
        ("0x1.fffffffffffff8p0", Ok(2.0)),
        ("0x1p-1074", Ok(5e-324)),
        ("0x1p-1075", Ok(0.0)),
        ("0x1.8p-1075", Ok(5e-324)),
        ("0x.8p1", Ok(1.0)),
        ("0x1p1024", Err(NumberError::Range)),
        ("0x1", Err(NumberError::Syntax)),
        ("0x.p1", Err(NumberError::Syntax)),
        ("0x1p", Err(NumberError::Syntax)),
        ("0x1_p1", Err(NumberError::Syntax)),
        ("0_x1p1", Err(NumberError::Syntax)),
        ("0b1", Err(NumberError::Syntax)),
        ("1__0", Err(NumberError::Syntax)),
        ("_1", Err(NumberError::Syntax)),
        ("1_e1", Err(NumberError::Syntax)),
        ("1_.5", Err(NumberError::Syntax)),
        ("1._5", Err(NumberError::Syntax)),
        ("nane", Err(NumberError::Syntax)),
    ] {
        assert_eq!(parse(text.as_bytes()), expected, "{text}");
    }
}

#[test]
fn values() {
    for (text, expected) in [
        ("iNf", Ok(f64::INFINITY)),
        ("-infinity", Ok(f64::NEG_INFINITY)),
        ("1.", Ok(1.0)),
        (".5", Ok(0.5)),
        ("1e-400", Ok(0.0)),
        ("9007199254740993", Ok(9007199254740992.0)),
        ("18446744073709551615", Ok(18446744073709551615.0)),
        ("1.7976931348623157e308", Ok(f64::MAX)),
        ("1e400", Err(NumberError::Range)),
        ("-1e400", Err(NumberError::Range)),
        ("1_0", Err(NumberError::Syntax)),
        ("0x1p-2", Err(NumberError::Syntax)),
        ("-nan", Err(NumberError::Syntax)),
        ("+NaN", Err(NumberError::Syntax)),
        (".", Err(NumberError::Syntax)),
        ("", Err(NumberError::Syntax)),
        ("1 ", Err(NumberError::Syntax)),
    ] {
        assert_eq!(parse_value(text.as_bytes()), expected, "{text}");
    }
    assert_eq!(parse_value(b"NaN").unwrap().to_bits(), 0x7ff8_0000_0000_0001);
    assert_eq!(parse_value(b"-0").unwrap().to_bits(), (-0.0_f64).to_bits());
}

#[test]
fn writing() {
    for (value, expected) in [
        (1e5, "100000"),
        (1e6, "1e+06"),
        (123456789.0, "1.23456789e+08"),
        (1e21, "1e+21"),
        (0.0001, "0.0001"),
        (0.00001, "1e-05"),
        (100000.5, "100000.5"),
        (12345678.25, "1.234567825e+07"),
        (-0.0, "-0"),
        (f64::NEG_INFINITY, "-Inf"),
    ] {
        assert_eq!(format(value), expected);
    }
    for (value, expected) in [
        (1.0, "1"),
        (1e21, "1000000000000000000000"),
        (1e-7, "0.0000001"),
        (0.1, "0.1"),
        (-0.0, "-0"),
        (f64::INFINITY, "+Inf"),
        (f64::NAN, "NaN"),
    ] {
        assert_eq!(format_decimal(value), expected);
    }
    for (value, expected) in [(1.0, "1.0"), (-0.0, "0.0"), (1e6, "1e+06"), (f64::NAN, "NaN"), (0.5, "0.5")] {
        assert_eq!(format_openmetrics(value), expected);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::test_runner::Config { failure_persistence: None, ..Default::default() })]

    #[test]
    fn reads_like_rust_where_the_languages_agree(value: f64, digits in "-?[0-9]{1,25}(\\.[0-9]{0,25})?(e[-+]?[0-9]{1,2})?") {
        if !value.is_nan() {
            for text in [format!("{value}"), format!("{value:e}"), format(value)] {
                proptest::prop_assert_eq!(parse_value(text.as_bytes()).unwrap().to_bits(), value.to_bits());
            }
        }
        let expected: f64 = digits.parse().unwrap();
        proptest::prop_assert_eq!(parse_value(digits.as_bytes()).unwrap().to_bits(), expected.to_bits());
    }
}

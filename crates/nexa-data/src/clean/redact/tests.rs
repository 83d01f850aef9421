use super::*;

/// Replaces everything sensitive in one text.
fn redact(text: &str) -> (String, Counts) {
    let redactor = Redactor::new(&Sensitive::ALL);
    let mut row = redactor.row();
    let redacted = row.redact(text).unwrap_or_else(|| text.to_owned());
    (redacted, row.finish())
}

fn check(text: &str, expected: &str) {
    assert_eq!(redact(text).0, expected, "{text}");
}

/// A text in which nothing is sensitive.
fn plain(text: &str) {
    check(text, text);
}

/// Joins what no scanner of repositories should take for a key.
fn key(start: &str, rest: &str) -> String {
    format!("{start}{rest}")
}

#[test]
fn equal_values_of_a_row_have_equal_placeholders() {
    let redactor = Redactor::new(&Sensitive::ALL);
    let mut row = redactor.row();
    assert_eq!(row.redact("ann@mail.org wrote to bob@mail.org.").unwrap(), "<EMAIL_1> wrote to <EMAIL_2>.");
    assert_eq!(row.redact("bob@mail.org at 8.8.8.8").unwrap(), "<EMAIL_2> at <IP_ADDRESS_1>");
    assert_eq!(row.redact("nothing here"), None);
    assert_eq!(row.finish(), Counts::from([(Sensitive::Email, 3), (Sensitive::IpAddress, 1)]));
    assert_eq!(redactor.row().redact("bob@mail.org").unwrap(), "<EMAIL_1>", "the next row counts anew");
}

#[test]
fn mail_addresses() {
    check("mail a.b+c@sub.mail.co.uk, now", "mail <EMAIL_1>, now");
    plain("user@example.com and someone@host.test are for documentation");
    plain("a..b@mail.org is none, nor is @handle or x@y");
}

#[test]
fn public_addresses_of_the_internet() {
    check("from 8.8.8.8 and 2606:4700::1111.", "from <IP_ADDRESS_1> and <IP_ADDRESS_2>.");
    plain("10.0.0.1 192.168.1.1 127.0.0.1 172.20.0.1 192.0.2.7 100.64.0.1 255.255.255.255 0.0.0.0");
    plain("version 1.2.3.456 or 1.2.3.4.5 or 12:30:45 or fe80::1 or 2001:db8::1 or ::1");
}

#[test]
fn bank_accounts_have_check_digits() {
    check("to DE89 3704 0044 0532 0130 00 please", "to <IBAN_1> please");
    check("GB82WEST12345698765432", "<IBAN_1>");
    plain("DE88 3704 0044 0532 0130 00 and AB12 3456 7890");
}

#[test]
fn cards_have_issuer_length_and_check_digit() {
    check("card 4111 1111 1111 1111, ok", "card <CREDIT_CARD_1>, ok");
    check("5500-0000-0000-0004", "<CREDIT_CARD_1>");
    check("378282246310005", "<CREDIT_CARD_1>");
    plain("4111 1111 1111 1112 and 1234567812345670 and 3141592653589793238");
}

#[test]
fn social_security_numbers_may_have_been_given_out() {
    check("ssn 536-90-4399", "ssn <US_SSN_1>");
    plain("000-12-3456 666-12-3456 900-12-3456 123-00-4567 123-45-0000");
}

#[test]
fn telephone_numbers_are_of_a_numbering_plan() {
    check("call +44 20 7946 0958 or (212) 736-5000.", "call <PHONE_1> or <PHONE_2>.");
    check("+1 650-253-0000", "<PHONE_1>");
    plain("+999 123 456 789");
    plain("12 + 3456789 = 3456801, and 1999-2000-2001, and 555 123");
}

#[test]
fn secrets_have_the_forms_of_their_providers() {
    let letters = "aB3dE6gH9jK2mN5pQ8sT1vW4yZ7bC0dF3gH6";
    let check = |secret: String| check(&format!("k={secret};"), "k=<SECRET_1>;");
    check(key("AKIA", "QWERTYUIOPASDFGH"));
    check(key("ghp_", letters));
    check(key("sk-proj-", &letters.repeat(2)));
    check(key("AIza", &letters[..35]));
    check(key("xoxb-", "123456789012-abcdefghijkl"));
    check(key("eyJ", "hbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abcdefghijklmnop"));
    check(key("-----BEGIN RSA PRIVATE KEY-----", "\nMIIabc\n-----END RSA PRIVATE KEY-----"));
    let (redacted, _) = redact(&format!("aws_secret_access_key = \"{letters}AbCd\""));
    assert_eq!(redacted, "aws_secret_access_key = \"<SECRET_1>\"", "only the value goes");
    plain("sk-learn and ghp_short and AKIA");
}

#[test]
fn only_the_kinds_that_were_asked_for_are_replaced() {
    let redactor = Redactor::new(&[Sensitive::Email]);
    assert_eq!(redactor.row().redact("a@mail.org 8.8.8.8").unwrap(), "<EMAIL_1> 8.8.8.8");
    assert_eq!(Redactor::new(&[]).row().redact("a@mail.org"), None);
}

#[test]
fn a_value_is_in_no_report() {
    let redactor = Redactor::new(&Sensitive::ALL);
    let mut row = redactor.row();
    row.redact("ann@mail.org").unwrap();
    assert_eq!(serde_json::to_string(&row.finish()).unwrap(), r#"{"email":1}"#);
}

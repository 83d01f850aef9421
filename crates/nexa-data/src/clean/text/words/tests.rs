use super::*;

/// The words of a text as it spells them, found again by their hashes.
fn spelled(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    split_words(text, &mut words);
    let mut rest = text;
    words
        .iter()
        .map(|word| {
            rest = rest.trim_start_matches(|c: char| classes::of(c) & SPACE != 0);
            let end = rest.char_indices().nth(word.characters as usize).map_or(rest.len(), |(at, _)| at);
            let (spelled, behind) = rest.split_at(end);
            rest = behind;
            assert_eq!(hash(spelled.as_bytes()), word.hash, "{text}: {spelled}");
            spelled.to_owned()
        })
        .collect()
}

/// The expected words are separated by blanks; they are what spaCy 3.8's English tokenizer gives.
fn check(text: &str, expected: &str) {
    assert_eq!(spelled(text).join(" "), expected, "{text}");
}

#[test]
fn marks_are_split_from_both_ends() {
    check("", "");
    check(" \u{a0}\n\t ", "");
    check("Hello, world!", "Hello , world !");
    check("(\"quoted.\")", "( \" quoted . \" )");
    check("wait... what?!", "wait ... what ? !");
    check("...and so on…", "... and so on …");
    check("'tis the dogs' day", "' tis the dogs ' day");
    check("the dog's and the dog’s bone", "the dog 's and the dog ’s bone");
    check("$5.00 and 5€ or 50%", "$ 5.00 and 5 € or 50 %");
    check("10km of 3.5kg, 7pm", "10 km of 3.5 kg , 7 pm");
    check("+5 is + five", "+5 is + five");
    check("“Élan vital”, naïve。", "“ Élan vital ” , naïve 。");
    check("- a bullet", "- a bullet");
}

#[test]
fn full_stops_stay_with_initials_and_abbreviations() {
    check("Mr. Smith lives in the U.S. now.", "Mr. Smith lives in the U.S. now .");
    check("NASA. At 5 p.m. sharp", "NASA . At 5 p.m. sharp");
    check("Plan B. is it", "Plan B. is it");
    check("e.g. this (i.e. that).", "e.g. this ( i.e. that ) .");
}

#[test]
fn contractions_are_two_words() {
    check("I don't, can't and won’t.", "I do n't , ca n't and wo n’t .");
    check("She'll've gone; it's I'm", "She 'll 've gone ; it 's I 'm");
    check("cannot gonna", "can not gon na");
    check("its well-known shed", "its well - known shed");
}

#[test]
fn inner_marks_split_between_letters() {
    check("state-of-the-art", "state - of - the - art");
    check("one--two", "one -- two");
    check("end.Start a.b", "end . Start a.b");
    check("red,green 1,000", "red , green 1,000");
    check("10-20 3*4 a=b", "10 - 20 3 * 4 a = b");
    check("his/her and/or 1/2", "his / her and/or 1/2");
    check("hot😀dog", "hot 😀 dog");
    check("a…b", "a … b");
}

#[test]
fn addresses_stay_whole() {
    check("see https://example.com/a-b?c=d, please", "see https://example.com/a-b?c=d , please");
    check("mail a.Person@mail.example.org.", "mail a.Person@mail.example.org .");
    check("www.Example-site.com:8080/x", "www.Example-site.com:8080/x");
}

#[test]
fn sentences_begin_behind_marks_that_end_one() {
    let check = |text: &str, expected: u64| {
        let mut words = Vec::new();
        split_words(text, &mut words);
        assert_eq!(sentences(&words), expected, "{text}");
    };
    check("", 0);
    check("one", 1);
    check("One. Two! Three?", 3);
    check("\"One.\" (Two.) Mr. Three...", 3);
    check("One?! Two", 2);
    check("one... two", 1);
}

#[test]
fn words_know_what_they_are() {
    let traits = |text: &str| {
        let mut words = Vec::new();
        split_words(text, &mut words);
        words.iter().map(|word| word.traits & (ALPHABETIC | SYMBOLIC | STOP_WORDS)).collect::<Vec<_>>()
    };
    assert_eq!(
        traits("the x1 42 $ — =="),
        [ALPHABETIC | 1, ALPHABETIC, 0, SYMBOLIC, SYMBOLIC, SYMBOLIC, SYMBOLIC]
    );
    assert_eq!(traits("÷ x÷ ²"), [0, ALPHABETIC, 0], "signs of mathematics are neither letters nor marks");
    assert_eq!(
        traits("The €"),
        [ALPHABETIC, 0],
        "stop words are small, and this sign is none of datatrove's"
    );
}

//! A provider that hangs, hangs up, garbles and limits: everything arrives in the end, once.

use nexa_distill::embedded::{self, Conduct, EmbeddedTeacher, Faults};

use crate::support::{TestLab, collect, numbered};

#[test]
fn every_fault_of_the_transport_is_outlived() {
    let check = |faults: Faults, retries: u64| {
        let provider = EmbeddedTeacher::start(embedded::Config { faults, ..Default::default() }).unwrap();
        let lab = TestLab::new();
        let inputs = lab.put_prompts(&numbered(30));
        let stage = collect(&format!("{}#m", provider.base_url()), |config| config.timeout_s = 1);
        let made = lab.execute(&stage, "answers", &inputs).unwrap();
        assert_eq!(made.manifest.counts.rows, Some(30));
        assert!(made.manifest.summary["retries"].as_u64().unwrap() >= retries, "{faults:?}");
    };
    check(Faults { hanging: 0.1, ..Faults::NONE }, 1);
    check(Faults { malformed: 0.2, ..Faults::NONE }, 2);
    check(Faults { disconnecting: 0.2, ..Faults::NONE }, 2);
    check(Faults { failing: 0.2, ..Faults::NONE }, 2);
    check(Faults { rate_limited: 0.5, ..Faults::NONE }, 5);
}

#[test]
fn a_limit_that_is_told_is_hardly_ever_run_into() {
    let conduct = Conduct { requests_per_second: Some(200.0), tells_limits: true, ..Conduct::default() };
    let provider =
        EmbeddedTeacher::start(embedded::Config { faults: Faults::NONE, conduct, ..Default::default() })
            .unwrap();
    let lab = TestLab::new();
    let inputs = lab.put_prompts(&numbered(400));
    let stage = collect(&format!("{}#m", provider.base_url()), |_| ());
    lab.execute(&stage, "answers", &inputs).unwrap();
    let seen = provider.seen();
    assert_eq!((seen.answered, seen.repeated), (400, 0));
    assert!(seen.refused <= 4, "{seen:?}");
}

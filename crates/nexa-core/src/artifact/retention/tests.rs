use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

use super::*;

/// A manifest of a version, made of others, so many days ago.
fn manifest(id: &str, parents: &[&str], days: i64) -> Manifest {
    let hash = crate::hash::ContentHash::of_bytes(id.as_bytes());
    let parents: Vec<_> =
        parents.iter().map(|id| json!({"role": "rows", "id": id, "content_hash": hash})).collect();
    let value = json!({
        "id": id, "kind": "dataset", "content_hash": hash, "files": [], "counts": {}, "parents": parents,
        "producer": {
            "stage": "test", "code_version": 1, "key": hash, "run": "r", "nexa_version": "0", "git": null,
            "config": {}, "seed": 0, "host": crate::machine::Host::current(), "device": "cpu",
        },
        "spend": {}, "created_at": now() - chrono::TimeDelta::days(days),
    });
    serde_json::from_value(value).unwrap()
}

fn now() -> DateTime<Utc> {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

fn decided(manifests: &[Manifest], retention: Retention, held: &Held) -> Decided {
    let all: Vec<&Manifest> = manifests.iter().collect();
    decide(&all, "tutor", retention, held, now())
}

fn ids(ids: &[ArtifactId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

/// Three versions of data, of which each has a model.
fn chain() -> Vec<Manifest> {
    (1..=3)
        .flat_map(|version| {
            let rows = format!("tutor/rows_v{version}");
            let days = 100 - i64::from(version);
            [manifest(&rows, &[], days), manifest(&format!("tutor/model_v{version}"), &[&rows], days)]
        })
        .collect()
}

#[test]
fn the_newest_stay_and_children_go_before_their_parents() {
    let keep = |keep_last| Retention { keep_last, older_than: None };
    let check = |keep_last, expected: &[&str]| {
        assert_eq!(ids(&decided(&chain(), keep(keep_last), &Held::default()).removed), expected);
    };
    check(3, &[]);
    check(2, &["tutor/model_v1", "tutor/rows_v1"]);
    check(0, &["tutor/model_v2", "tutor/rows_v2", "tutor/model_v1", "tutor/rows_v1"]);
}

#[test]
fn what_a_kept_version_descends_from_stays_and_says_so() {
    let mut held = Held::default();
    let model: ArtifactId = "tutor/model_v1".parse().unwrap();
    held.hold(model.clone(), Reason::Tagged { tags: vec!["prod".to_owned()] });
    let decided = decided(&chain(), Retention { keep_last: 1, older_than: None }, &held);
    assert_eq!(ids(&decided.removed), ["tutor/model_v2", "tutor/rows_v2"]);
    let reasons = &decided.kept[&"tutor/rows_v1".parse::<ArtifactId>().unwrap()];
    assert_eq!(reasons, &[Reason::Ancestor { of: model }]);
    assert_eq!(reasons[0].to_string(), "tutor/model_v1 descends from it");
}

#[test]
fn what_is_young_stays() {
    let manifests =
        [manifest("tutor/a_v1", &[], 40), manifest("tutor/a_v2", &[], 20), manifest("tutor/a_v3", &[], 1)];
    let retention = Retention { keep_last: 1, older_than: Some("30d".parse().unwrap()) };
    assert_eq!(ids(&decided(&manifests, retention, &Held::default()).removed), ["tutor/a_v1"]);
    // A clock that was set back.
    let ahead = [manifest("tutor/a_v1", &[], -3), manifest("tutor/a_v2", &[], 0)];
    assert!(decided(&ahead, retention, &Held::default()).removed.is_empty());
}

#[test]
fn another_project_is_left_alone_with_what_it_needs() {
    let manifests = [
        manifest("tutor/a_v1", &[], 9),
        manifest("tutor/a_v2", &[], 9),
        manifest("tutor/a_v3", &[], 9),
        manifest("other/b_v1", &["tutor/a_v2"], 9),
        manifest("other/b_v2", &[], 9),
    ];
    let decided = decided(&manifests, Retention { keep_last: 1, older_than: None }, &Held::default());
    assert_eq!(ids(&decided.removed), ["tutor/a_v1"]);
}

#[test]
fn nothing_that_a_kept_artifact_descends_from_is_ever_removed() {
    for seed in 0..200 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut manifests: Vec<Manifest> = Vec::new();
        for at in 0..random.random_range(1..60_usize) {
            let name = ["rows", "answers", "model"][random.random_range(0..3)];
            let project = if random.random_range(0..10) == 0 { "other" } else { "tutor" };
            let version =
                1 + manifests.iter().filter(|m| m.id.project == project && m.id.name == name).count();
            let parents: Vec<String> = (0..random.random_range(0..4_usize))
                .filter(|_| at > 0)
                .map(|_| manifests[random.random_range(0..at)].id.to_string())
                .collect();
            let parents: Vec<&str> = parents.iter().map(String::as_str).collect();
            let days = i64::from(random.random_range(0..60_u32));
            manifests.push(manifest(&format!("{project}/{name}_v{version}"), &parents, days));
        }
        let mut held = Held::default();
        for manifest in manifests.iter().filter(|_| random.random_range(0..12) == 0) {
            held.hold(manifest.id.clone(), Reason::Read { run: "r".to_owned() });
        }
        let older_than = (random.random_range(0..2) == 0).then(|| "30d".parse().unwrap());
        let retention = Retention { keep_last: random.random_range(0..4_usize), older_than };
        let Decided { removed, kept } = decided(&manifests, retention, &held);

        let gone: BTreeSet<String> = removed.iter().map(ToString::to_string).collect();
        for manifest in &manifests {
            let id = manifest.id.to_string();
            let is_own = manifest.id.project == "tutor";
            assert_eq!(gone.contains(&id), is_own && !kept.contains_key(&manifest.id), "seed {seed}: {id}");
            if !gone.contains(&id) {
                let lost = manifest.parents.iter().find(|parent| gone.contains(&parent.id));
                assert!(lost.is_none(), "seed {seed}: {id} loses {lost:?}");
            }
            // Wherever a kill falls, what is left has its parents.
            if let Some(at) = removed.iter().position(|one| *one == manifest.id) {
                let earlier: BTreeSet<String> = removed[..at].iter().map(ToString::to_string).collect();
                assert!(manifest.parents.iter().all(|parent| !earlier.contains(&parent.id)), "seed {seed}");
            }
        }
        for id in held.reasons.keys() {
            assert!(!gone.contains(&id.to_string()), "seed {seed}: {id} is held");
        }
    }
}

#[test]
fn ages_are_read_as_they_are_written() {
    let check = |text: &str, seconds: Option<u64>| {
        let age = text.parse::<Age>().ok();
        assert_eq!(age.map(|age| age.duration().as_secs()), seconds, "{text}");
        if let Some(age) = age {
            assert_eq!(age.to_string(), text);
        }
    };
    check("90m", Some(5400));
    check("12h", Some(43_200));
    check("30d", Some(2_592_000));
    check("2w", Some(1_209_600));
    check("0d", Some(0));
    check("30", None);
    check("d", None);
    check("-1d", None);
    check("30 days", None);
}

//! Artifacts: what stages make, immutable, versioned, each with a manifest beside it.
//!
//! ```text
//! teacher_outputs_v1.parquet            the files, named for the artifact …
//! teacher_outputs_v1.rejected.parquet
//! teacher_outputs_v1.manifest.json      … and the manifest, written last: without it there is no artifact
//! student_v1/model.safetensors          kinds that are folders hold their files inside
//! student_v1.manifest.json
//! ```

mod manifest;
mod store;

pub use manifest::{ArtifactId, Counts, FileEntry, Kind, MANIFEST_VERSION, Manifest, Parent, Producer};
pub use store::{Artifact, Draft, Store};

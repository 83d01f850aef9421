//! Arithmetic on host slices: what the fused tensor operations and the inference engine are made of.
//!
//! Every kernel follows three rules. Each number that it writes is reduced in an order that depends only on the
//! shapes, so neither the number of threads nor the neighbours in a batch change a bit. The width of the vectors is
//! written in the source (16 lanes), so wider hardware gives the same bits too. And every kernel has a plain
//! counterpart in [`crate::plain`] that the tests hold it against.
//!
//! The code is ordinary Rust loops over arrays; [`simd::vectorised`] compiles them again for AVX2 with FMA and for
//! AVX-512, and picks the version that the processor can run.

pub(crate) mod attention;
pub(crate) mod bias;
pub(crate) mod cache;
pub(crate) mod cross_entropy;
pub(crate) mod distill;
pub(crate) mod dropout;
pub(crate) mod gather;
pub(crate) mod head;
pub(crate) mod head_norm;
pub(crate) mod linear;
pub(crate) mod log_softmax;
pub(crate) mod lora;
pub(crate) mod panel;
pub(crate) mod quant;
pub(crate) mod rms_norm;
pub(crate) mod rope;
pub(crate) mod simd;
pub(crate) mod swiglu;
pub(crate) mod team;

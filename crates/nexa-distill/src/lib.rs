//! Teachers, collection, gates and packaging: from prompts to supervised fine-tuning data.

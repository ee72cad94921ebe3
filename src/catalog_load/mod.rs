//! catalog_load (being written)

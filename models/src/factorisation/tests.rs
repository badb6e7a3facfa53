//! Tests of the factorisation as a whole.

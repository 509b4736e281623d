//! One worker: a thread with a runtime of its own.

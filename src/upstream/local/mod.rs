//! What one worker owns of the upstreams.

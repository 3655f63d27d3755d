//! Tests of the stack file's parser.

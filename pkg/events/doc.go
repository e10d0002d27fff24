// Package events is Lockstep's wire contract: names, CloudEvents types and payloads, digests, the release chain, Merkle leaves
// and paths, signatures, and the closed set of reasons.
//
// Guarantees: a payload is written by one encoder with a fixed field order, so that the bytes that are signed, stored and
// chained are one byte string; values in it are canonical JSON (RFC 8785); entries and releases are read strictly (an unknown
// field or type stops the reader with upgrade-needed), acks, beats and pulses tolerantly. Golden vectors in testdata pin all of
// it.
//
// It is importable by others, knows no transport and no storage, and decides nothing: what may be released is internal/ledger's
// business, what an environment is after its releases is pkg/fold's.
package events

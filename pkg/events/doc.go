// Package events is Lockstep's wire contract: names, CloudEvents types and payloads, digests, the release chain, Merkle leaves
// and paths, signatures, what people sign, trust documents with their judgement, and the closed set of reasons.
//
// Guarantees: a payload is written by one encoder with a fixed field order, so that the bytes that are signed, stored and
// chained are one byte string; values in it are canonical JSON (RFC 8785); entries and releases are read strictly (an unknown
// field or type stops the reader with upgrade-needed), acks, beats and pulses tolerantly. Golden vectors in testdata pin all of
// it.
//
// Trust: a release of a change is judged by CheckApprovals under the trust document at its place, from the statements that it carries and
// nothing else; a document follows another by CheckSuccession, from the signatures of roots. Both are pure, and read no clock: the time
// is the release's. Keys are Ed25519 nkeys; a statement or a document is read only as this package writes it, so that one signature is
// over one meaning.
//
// It is importable by others, knows no transport and no storage, and decides nothing: what may be released is internal/ledger's
// business, what an environment is after its releases is pkg/fold's.
package events

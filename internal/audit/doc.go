// Package audit makes and checks evidence about a ledger: exports of all of it that are verified anywhere, proofs of one change that
// need nothing beside them, and what happened for people to read.
//
// Guarantees: nothing is said of a ledger before it was verified, entry by entry; a byte of an export or a proof that means something
// cannot be another one; what a finding rests on beside signatures and hashes is part of the finding. It is pure: bytes come and go
// through readers and writers, and nobody's word is taken for what bytes can show.
package audit

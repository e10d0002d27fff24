// Package seal makes and checks seals: signed tree heads over a ledger, in the formats of golang.org/x/mod/sumdb (tlog and note), with
// proofs that an entry is in the sealed ledger and that one sealed ledger continues another.
//
// Guarantees: who holds a seal of N entries notices any ledger that does not begin with these N entries, whoever signed it; a seal is
// read in one spelling only. It is pure: entries, keys and chance arrive as arguments. It is not for saying whether an entry makes
// sense; that is what internal/ledger is for.
package seal

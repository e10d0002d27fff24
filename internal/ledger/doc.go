// Package ledger is the life of a change: commands, the decisions they lead to, the entries that record them, the state that
// the entries project to, and the derivation of releases from it.
//
// Guarantees: Decide and Apply are functions over values, with time as an argument; a decision is one entry, all its events or
// none; every release in the ledger was accepted by the verification that agents run, before the entry existed; a release is a
// pure function of the ledger, and Apply derives it again and compares. What a person is shown as released is in the ledger.
//
// It knows no bus, no file and no clock. Appending entries is internal/publisher's business.
package ledger

// Package publisher is the control plane's runtime: it appends decisions to the ledger, sends what they released, gathers what
// agents say, and serves the API.
//
// Guarantees: a decision is appended before anything follows from it, and everything that follows is derived from the ledger and
// idempotent, so that a publisher which dies in between finishes the work when it comes back; before its first append after a start
// or reconnect it has checked that the ledger is neither cut nor holed nor forked; two publishers side by side do nothing twice. A start
// checks again everything but what agents signed, where its own signed mark says that it has checked those very bytes before.
//
// What may be decided is internal/ledger's business, how the bus is spoken to internal/bus's. It is not for agents.
package publisher

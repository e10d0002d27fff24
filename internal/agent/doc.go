// Package agent is the runtime beside an environment's instance: next → verify → plan → apply → read back → commit → ack, in one
// straight chain.
//
// Guarantees (ARCHITECTURE.md, Agent): only verified releases are applied, in order; state, checkpoint and pending ack are written
// in one transaction after the apply was read back; an apply that is cut short ends, after a restart and without the bus, at the
// old or at the new revision, whole; what could not be applied is put back, and where that fails the agent says torn; silence of
// the publisher is never shown as in step; secrets are resolved at apply time only and are in no log, ack, beat, plan or error.
//
// It has no globals: several agents run in one process. It knows no publisher and decides on no change.
package agent

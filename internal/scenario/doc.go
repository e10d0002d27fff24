// Package scenario attacks the whole pipeline: publishers and agents in processes of their own and a real nats-server, killed,
// frozen, cut off and restored from old copies while changes run through them.
//
// It holds tests only. Every scenario, whatever it is about, ends with the same invariants (ARCHITECTURE.md, Guarantees): every
// environment is at its head, or in the named state that the scenario expects; checkpoints, files and history are the ledger's fold;
// nothing is missing, doubled or reordered; every delivery is in the ledger; nothing is called in step that is not. Random schedules
// print their seed, and the same seed gives the same schedule again.
package scenario

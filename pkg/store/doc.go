// Package store is an agent's durable state on bbolt: the fold at its checkpoint, the history, the intent of an apply under way,
// and the acks that the bus has not yet taken.
//
// Guarantees: what one Update writes is there whole or not at all, and survives power loss once Update has returned. A file is
// opened only by the agent, environment and ledger that it belongs to, by one process at a time. Every record carries a checksum
// and the state is hashed again when it is loaded, so that a damaged file is refused (ErrCorrupt) and never believed.
//
// A store that is lost costs nothing but time: moved away, the agent starts again at revision 1 and folds. It is importable by
// others for inspection (OpenReadOnly); it verifies no releases (pkg/fold does) and knows no bus.
package store

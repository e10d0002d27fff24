// Package trust edits trust documents and says what they mean, for people: the first document, the one that follows after an edit, what
// differs between two, who may do what in an environment, and what a root signs away from the network.
//
// Guarantees: an edit never changes the document it was given; what it gives is the next version, passes events.Trust.Check, and carries
// no signature. It judges no release (events.Trust does) and keeps no key.
package trust

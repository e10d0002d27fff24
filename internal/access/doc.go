// Package access says who reads a publisher over HTTP from another host: people of the trust document, by tokens that they sign
// themselves, and by sessions of browsers, which one-time links open.
//
// Guarantees: a token is a person's signed statement (the same envelope as every command's) for one ledger, one host and one use, and
// ends; it is taken in one spelling only; it counts while the person has the key that signed it, and a role, in the trust document that
// is newest when it is looked at. A link serves once, for a minute. Sessions are few for each person, end after hours, or when the
// person's key or roles do, and die with the process, as links do: neither is ever written down, and what is kept of them are digests.
// No error says anything of a token, a link or a session.
//
// It knows no HTTP, and no writes: those are commands, whose own statements internal/ledger judges.
package access

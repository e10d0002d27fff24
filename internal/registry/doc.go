// Package registry is environments as code: manifests, what they come to in each environment, and where every value comes from.
//
// A manifest is read into leaves (JSON pointer → value with file and line), and everything else is a function over leaves: the
// difference of two sets of manifests is structural edits, the sources of an environment are the fold of the edits that were
// released to it, and rendering merges the layers of a resource leaf by leaf (RFC 7396), so that every leaf of the result has
// exactly one origin.
//
// Guarantees: reading is strict, bounded, and names file, line and column; the order of files and documents means nothing; the
// same manifests give the same bytes; taking an edit out of the fold takes out its leaves and nothing else; what several
// environments share is in memory once and is rendered once.
//
// It is pure: files come as an fs.FS, time and environments as arguments. It does not know the ledger, and judges no policies.
package registry

// Package keys holds the files that prove who somebody is: a key file with an nkey seed, a directory of those of people, and an agent's
// enrolment.
//
// Guarantees: such a file is written for its owner alone, and one that others could read is refused; both are read strictly, and
// no error names a seed. It signs nothing (events.Signer does) and decides on no trust.
package keys

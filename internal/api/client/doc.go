// Package client talks to a publisher's HTTP API, and finds it.
//
// Guarantees: errors are the ones that the publisher's backend returned, by type; a command whose answer was lost is sent again
// with the same id, so that it is done once; every call ends with its context or its own time limit. A server that others on
// this machine may have advertised is not believed.
package client

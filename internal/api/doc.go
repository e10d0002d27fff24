// Package api is the publisher's HTTP API: reads of where everything stands, and one write per command, described by OpenAPI 3.1
// at /api/v1/openapi.json.
//
// Guarantees: a request whose Host is not one of ours is refused, and so is a write that does not come as application/json or that
// a page of another origin sends: a web page can neither read nor approve. A command sent again gets its first answer. Errors are
// problem documents (RFC 9457) with kind, reason and what to do next; one table maps kinds to HTTP statuses and exit codes.
//
// It decides nothing and keeps nothing: a Backend does.
package api

// Package schemas ships the JSON Schemas (2020-12) of the data of every event type, for readers in other languages and for
// validation outside of this project. The file of a type is named <type>.json; its $id is the dataschema of the events.
//
// The schemas follow from the Go types in pkg/events, with their comments as descriptions. They say what is well-formed; what is
// believed is decided by signatures, chains and pkg/fold.
package schemas

import "embed"

// Files holds the schemas.
//
//go:embed *.json
var Files embed.FS

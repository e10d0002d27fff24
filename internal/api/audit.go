package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
)

// ExportPath is where the whole ledger is read.
const ExportPath = Prefix + "/audit/export"

// registerAudit lets everything that is recorded be read, to be verified where nobody's word counts.
func registerAudit(api huma.API, b Backend) {
	huma.Register(api, huma.Operation{
		OperationID: "export", Method: http.MethodGet, Path: ExportPath, Tags: []string{"reads"},
		Summary: "The whole ledger under a seal, and what the release stream holds, one JSON object a line; an answer without its last line was cut",
	}, func(context.Context, *struct{}) (*huma.StreamResponse, error) {
		return &huma.StreamResponse{Body: func(to huma.Context) {
			to.SetHeader("Content-Type", "application/x-ndjson")
			_ = b.Export(to.Context(), to.BodyWriter()) // the answer has begun: its end is missing, and who reads it says so
		}}, nil
	})
}

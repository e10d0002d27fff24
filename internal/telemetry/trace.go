package telemetry

import (
	"encoding/hex"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// NewTraceParent begins a trace: a W3C trace context of a random trace and span.
func NewTraceParent(random io.Reader) (string, error) {
	id := make([]byte, 24)
	if _, err := io.ReadFull(random, id); err != nil {
		return "", fmt.Errorf("begin a trace: %w", err)
	}
	id[0] |= 1 // neither is all zero, which is no id
	id[16] |= 1
	return "00-" + hex.EncodeToString(id[:16]) + "-" + hex.EncodeToString(id[16:]) + "-01", nil
}

// traceParent is a W3C trace context; later versions may have more behind it.
var traceParent = regexp.MustCompile(`^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$`)

// TraceID is the trace of a W3C trace context; "" where that is none.
func TraceID(parent string) string {
	m := traceParent.FindStringSubmatch(parent)
	if m == nil || strings.HasPrefix(parent, "ff") || strings.Trim(m[1], "0") == "" || strings.Trim(m[2], "0") == "" || (strings.HasPrefix(parent, "00-") && m[3] != "") {
		return ""
	}
	return m[1]
}

package telemetry

import (
	"fmt"
	"io"
	"time"

	"github.com/rs/zerolog"
)

// LogFormats are the formats that NewLogger knows.
var LogFormats = []string{"text", "json"}

// NewLogger writes logs to w: format "json" for machines, "text" (or empty) for people; level is a zerolog level, empty for info.
func NewLogger(w io.Writer, format, level string) (zerolog.Logger, error) {
	parsed := zerolog.InfoLevel
	if level != "" {
		var err error
		if parsed, err = zerolog.ParseLevel(level); err != nil {
			return zerolog.Nop(), fmt.Errorf("log level %q: use debug, info, warn or error", level)
		}
	}
	switch format {
	case "json":
	case "text", "":
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: time.RFC3339, NoColor: true}
	default:
		return zerolog.Nop(), fmt.Errorf("log format %q: use text or json", format)
	}
	return zerolog.New(w).Level(parsed).With().Timestamp().Logger(), nil
}

package client

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"

	"github.com/lockstep-dev/lockstep/internal/api"
)

// Export reads the whole ledger as it comes; the caller closes it. It ends early where the publisher could not read on.
func (c *Client) Export(ctx context.Context) (io.ReadCloser, error) {
	response, err := c.askExport(ctx)
	if err == nil && response.StatusCode == http.StatusUnauthorized && c.reader.learn(response.Header) {
		_ = response.Body.Close() // the refusal was read
		response, err = c.askExport(ctx)
	}
	if err != nil {
		return nil, err
	}
	if media, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type")); response.StatusCode == http.StatusOK && media == "application/x-ndjson" {
		return response.Body, nil
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	return nil, c.read(response, answer, nil)
}

func (c *Client) askExport(ctx context.Context) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+api.ExportPath, nil)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	if err := c.reader.sign(request); err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failed(ctx, err)
	}
	return response, nil
}

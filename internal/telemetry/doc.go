// Package telemetry is what both programs show of themselves: logs, metrics, and the HTTP server on loopback that serves them.
//
// Guarantees: the server listens on loopback addresses only and answers only requests that name a loopback host, so that no web
// page can reach it through a rebound name; every registry is its owner's, nothing is global.
package telemetry

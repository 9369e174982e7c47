// Package api is how the gateway is asked: the management API as an
// http.Handler, its OpenAPI document, and a typed client for it.
//
// It decides nothing. It turns requests into calls of the authority, and the
// authority's answers and refusals into JSON. What it does own is the edge:
// bodies are read whole, within a limit and only as strict JSON; a request that a
// browser sends for another site changes nothing; and no response, and no error
// that is handed on for logging, repeats a value that a caller sent, since any
// field of any request may hold a secret put there by mistake.
package api

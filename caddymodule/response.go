package caddymodule

import (
	"io"
	"net/http"
	"net/textproto"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/sallyport/sallyport/tokenstore"
)

// responseWriter is what the handlers behind a gate write to. It keeps the
// upstream from speaking in the gate's name, and puts a refusal in place of a
// response that had not begun when its token stopped being valid.
type responseWriter struct {
	caddyhttp.ResponseWriterWrapper
	gate    *Gate
	request *http.Request
	stream  *stream
	record  *tokenstore.Record // that the request was allowed by

	origin    string // of a page that may read the response; empty: none
	fromQuery bool   // whether the credential stood in the URL

	wrote    bool // the final header was written
	fields   int  // how many header fields there were then
	replaced bool // by a refusal: what else is written is dropped
}

// WriteHeader writes the header, without what only gates may say.
func (w *responseWriter) WriteHeader(status int) {
	if w.wrote {
		if !w.replaced {
			w.ResponseWriter.WriteHeader(status) // net/http logs the mistake
		}
		return
	}
	h := w.Header()
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		dropIdentity(h)
		w.ResponseWriter.WriteHeader(status)
		return
	}
	w.wrote = true
	w.stream.begun.Store(true)
	if why := w.stream.ended.Load(); why != nil {
		w.replaced = true
		keepOnly(h, "Server", "Alt-Svc", "Strict-Transport-Security")
		if w.stream.hasBody && w.request.ProtoMajor == 1 {
			h["Connection"] = []string{"close"} // nobody reads the rest of the body
		}
		w.gate.answer(w.ResponseWriter, w.request, why)
		return
	}
	dropIdentity(h)
	if w.record != nil {
		tellOutlook(h, w.record, w.gate.now)
	}
	if w.gate.cors != nil {
		w.gate.cors.allowOrigin(h, w.origin)
	}
	if w.fromQuery {
		keepURLPrivate(h)
	}
	w.fields = len(h)
	w.ResponseWriter.WriteHeader(status)
}

func (w *responseWriter) begin() {
	if !w.wrote {
		w.WriteHeader(http.StatusOK)
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	w.begin()
	if w.replaced {
		return len(p), nil
	}
	return w.ResponseWriter.Write(p)
}

// ReadFrom keeps the way open for the kernel to copy the body.
func (w *responseWriter) ReadFrom(r io.Reader) (int64, error) {
	w.begin()
	if w.replaced {
		return io.Copy(io.Discard, r)
	}
	return w.ResponseWriterWrapper.ReadFrom(r)
}

// FlushError writes the header if need be, which the writer below would do
// without asking us.
func (w *responseWriter) FlushError() error {
	w.begin()
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Flush is for handlers that look for an http.Flusher.
func (w *responseWriter) Flush() { _ = w.FlushError() }

// finish looks after the trailers, which the server takes from the header map
// once the handlers are done.
func (w *responseWriter) finish() {
	if h := w.Header(); w.wrote && len(h) != w.fields {
		// The header itself is sent: what is still in the map are trailers.
		dropIdentity(h)
	}
}

// dropIdentity removes from a response what has the names of our headers (B8):
// an upstream that echoes its request would show them to the caller.
func dropIdentity(h http.Header) {
	for key := range h {
		if isIdentityKey(strings.TrimPrefix(key, http.TrailerPrefix)) {
			delete(h, key)
		}
	}
	announced, ok := h["Trailer"]
	if !ok {
		return
	}
	for i, value := range announced {
		names := slices.DeleteFunc(strings.Split(value, ","), func(name string) bool {
			return isIdentityKey(textproto.TrimString(name))
		})
		announced[i] = strings.Join(names, ",")
	}
}

func isIdentityKey(key string) bool {
	if len(key) < len(identityPrefix) || key[0]|0x20 != 's' {
		return false
	}
	return strings.HasPrefix(foldKey(key), identityPrefix)
}

func keepOnly(h http.Header, names ...string) {
	for key := range h {
		if !slices.Contains(names, key) {
			delete(h, key)
		}
	}
}

// keepURLPrivate keeps a URL that had a secret in it out of shared caches and
// out of the Referer header of links (C4).
func keepURLPrivate(h http.Header) {
	h["Referrer-Policy"] = []string{"no-referrer"}
	for _, value := range h["Cache-Control"] {
		if strings.Contains(strings.ToLower(value), "no-store") {
			return
		}
	}
	h["Cache-Control"] = []string{"private"}
}

var (
	_ io.ReaderFrom = (*responseWriter)(nil)
	_ http.Flusher  = (*responseWriter)(nil)
	_ http.Pusher   = (*responseWriter)(nil)
)

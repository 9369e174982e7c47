package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// handlerTransport answers requests by calling a handler.
type handlerTransport struct{ h http.Handler }

// RoundTrip calls the handler and collects what it writes.
func (t handlerTransport) RoundTrip(req *http.Request) (_ *http.Response, err error) {
	r := req.Clone(req.Context())
	r.RequestURI = req.URL.RequestURI()
	r.Host = req.URL.Host
	if req.Host != "" {
		r.Host = req.Host
	}
	if r.Body == nil {
		r.Body = http.NoBody
	}
	defer func() { _ = r.Body.Close() }()
	defer func() {
		// What a server does: the answer breaks off, and the program goes on.
		if v := recover(); v != nil {
			if e, ok := v.(error); !ok || !errors.Is(e, http.ErrAbortHandler) {
				panic(v)
			}
			err = io.ErrUnexpectedEOF
		}
	}()
	w := &collected{header: http.Header{}}
	t.h.ServeHTTP(w, r)
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", w.status, http.StatusText(w.status)),
		StatusCode:    w.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        w.sent,
		Body:          io.NopCloser(&w.body),
		ContentLength: int64(w.body.Len()),
		Request:       req,
	}, nil
}

// collected is a response in memory.
type collected struct {
	header, sent http.Header
	status       int
	body         bytes.Buffer
}

func (w *collected) Header() http.Header { return w.header }

func (w *collected) WriteHeader(status int) {
	if w.status == 0 {
		w.status, w.sent = status, w.header.Clone()
	}
}

func (w *collected) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/sallyport/sallyport/token"
)

// maxResponse is more than the largest page can take: 200 tokens with 1,000
// allow-list entries each.
const maxResponse = 32 << 20

// ErrUnexpectedAnswer is returned when something answers that is not this API:
// another program on the port, or a gateway without Sallyport.
var ErrUnexpectedAnswer = errors.New("api: the answer is not of Sallyport's management API")

// Client asks a gateway. What the gateway refuses comes back as *Problem. A
// Client is safe for concurrent use once its fields are set.
type Client struct {
	// Operator is sent as the name of who asks; empty sends none.
	Operator string
	// RequestedBy is the user in whose name the operator acts; empty: nobody's.
	RequestedBy token.ID
	// OTP is sent as the one-time code of who asks; empty sends none. A code works
	// once.
	OTP string

	base string
	http *http.Client
}

// NewClient makes a client of the API at base, such as
// "http://localhost:2019/sallyport/v1". The http.Client dials as its transport
// says (a Unix socket, mTLS) and sets the timeouts; nil takes Go's default.
// Redirects are not followed: they would carry a secret to another place.
func NewClient(base string, hc *http.Client) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New(`api: the address of the API must be like "http://localhost:2019/sallyport/v1"`)
	}
	if hc == nil {
		hc = http.DefaultClient
	}
	own := *hc
	own.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &Client{base: strings.TrimRight(base, "/"), http: &own}, nil
}

// NewHandlerClient makes a client that calls a handler in this process, with no
// network between: for commands that work on the store itself.
func NewHandlerClient(h http.Handler, basePath string) *Client {
	return &Client{base: "http://localhost" + basePath, http: &http.Client{Transport: handlerTransport{h}}}
}

// call is one request.
type call struct {
	method, path string
	query        url.Values
	header       http.Header
	body         any        // nil: none
	form         url.Values // in place of body
	accept       int        // a status besides 2xx whose body is an answer and no problem
}

// do asks and decodes the answer into out.
func (c *Client) do(ctx context.Context, ask call, out any) error {
	req, err := c.request(ctx, ask)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxResponse+1))
	if err != nil {
		return fmt.Errorf("api: the answer broke off: %w", err)
	}
	if len(data) > maxResponse {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrUnexpectedAnswer, maxResponse)
	}
	media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	switch {
	case (resp.StatusCode/100 == 2 || resp.StatusCode == ask.accept) && media == jsonType:
		if err := json.Unmarshal(data, out); err != nil {
			// Not the decoder's words: they can quote what they stumbled over.
			return fmt.Errorf("%w: its JSON does not have the form of this version", ErrUnexpectedAnswer)
		}
		return nil
	case resp.StatusCode >= 400 && media == problemType:
		p := &Problem{}
		if json.Unmarshal(data, p) == nil && p.Code != "" {
			p.Status = resp.StatusCode
			return p
		}
	}
	return fmt.Errorf("%w: status %d", ErrUnexpectedAnswer, resp.StatusCode)
}

func (c *Client) request(ctx context.Context, ask call) (*http.Request, error) {
	var body io.Reader
	if ask.body != nil {
		data, err := json.Marshal(ask.body)
		if err != nil {
			return nil, errors.New("api: the request can not be written as JSON")
		}
		body = bytes.NewReader(data)
	}
	if ask.form != nil {
		body = strings.NewReader(ask.form.Encode())
	}
	address := c.base + ask.path
	if len(ask.query) > 0 {
		address += "?" + ask.query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, ask.method, address, body)
	if err != nil {
		return nil, err
	}
	for name, values := range ask.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", jsonType)
	if ask.body != nil {
		req.Header.Set("Content-Type", jsonType)
	}
	if ask.form != nil {
		req.Header.Set("Content-Type", formType)
	}
	if c.Operator != "" {
		req.Header.Set(OperatorHeader, c.Operator)
	}
	if c.RequestedBy != "" {
		req.Header.Set(RequestedByHeader, string(c.RequestedBy))
	}
	if c.OTP != "" {
		req.Header.Set(OTPHeader, c.OTP)
	}
	return req, nil
}

// ask is do with the answer as a value.
func ask[T any](ctx context.Context, c *Client, what call) (T, error) {
	var out T
	err := c.do(ctx, what, &out)
	return out, err
}

// pages walks a list page by page, and stops at the first error.
func pages[T any](first string, page func(cursor string) (Page[T], error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for cursor := first; ; {
			p, err := page(cursor)
			if err != nil {
				var none T
				yield(none, err)
				return
			}
			for _, item := range p.Items {
				if !yield(item, nil) {
					return
				}
			}
			if p.NextCursor == "" {
				return
			}
			if p.NextCursor == cursor {
				var none T
				yield(none, fmt.Errorf("%w: a page names itself as the next", ErrUnexpectedAnswer))
				return
			}
			cursor = p.NextCursor
		}
	}
}

// under makes a path of an ID and what comes after it.
func under(list, id string, verb ...string) string {
	path := list + "/" + url.PathEscape(id)
	for _, v := range verb {
		path += "/" + v
	}
	return path
}

// with makes a header of one line, if the value is not empty.
func with(name, value string) http.Header {
	h := http.Header{}
	if value != "" {
		h.Set(name, value)
	}
	return h
}

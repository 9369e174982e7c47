package api

import (
	"context"
	"net/http"

	"github.com/sallyport/sallyport/authority"
)

func (h *handler) gatewayRoutes() {
	register(h, route{
		method: http.MethodGet, path: healthPath, id: "health", tag: "gateway",
		summary: "Say whether this gateway can do its work",
		also:    map[int]string{http.StatusServiceUnavailable: "Health"},
	}, func(ctx context.Context, _ authority.By, _ *nothingAsked) (*healthAnswer, error) {
		found := h.o.Health(ctx)
		status := http.StatusOK
		if found.Status == NotReady {
			status = http.StatusServiceUnavailable
		}
		return &healthAnswer{Status: status, Body: found}, nil
	})
	register(h, route{
		method: http.MethodGet, path: documentPath, id: "openapi", tag: "gateway", hidden: true,
		summary: "This API's OpenAPI document",
	}, func(context.Context, authority.By, *nothingAsked) (*documentAnswer, error) {
		return &documentAnswer{ContentType: jsonType, Body: h.document}, nil
	})
}

type healthAnswer struct {
	Status int
	Body   Health
}

type documentAnswer struct {
	ContentType string `header:"Content-Type"`
	Body        []byte
}

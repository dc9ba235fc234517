// Command gokit is a book service of go-kit, traced with zipkin-go: the stack that this project's original is made of.
//
//	gokit -zipkin URL -listen HOST:PORT                      answers calls itself
//	gokit -zipkin URL -listen HOST:PORT -forward HOST:PORT   passes them on
//	gokit -zipkin URL -call HOST:PORT                        calls both methods, and prints the trace's id
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"
	"os/signal"
	"syscall"
	"time"

	"github.com/go-kit/kit/endpoint"
	kitzipkin "github.com/go-kit/kit/tracing/zipkin"
	kitgrpc "github.com/go-kit/kit/transport/grpc"
	"github.com/openzipkin/zipkin-go"
	httpreporter "github.com/openzipkin/zipkin-go/reporter/http"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"bookmesh/tests/interop/gokit/book"
)

func main() {
	collector := flag.String("zipkin", "", "URL of Zipkin's collector")
	name := flag.String("name", "go-kit", "the service's name in traces")
	listen := flag.String("listen", "", "address to serve on")
	forward := flag.String("forward", "", "address of the service to pass calls on to")
	call := flag.String("call", "", "address of the service to call")
	flag.Parse()
	if err := run(*collector, *name, *listen, *forward, *call); err != nil {
		log.Fatal(err)
	}
}

func run(collector, name, listen, forward, call string) error {
	reporter := httpreporter.NewReporter(collector, httpreporter.BatchInterval(10*time.Millisecond))
	defer reporter.Close() // sends what is left
	local, err := zipkin.NewEndpoint(name, listen)
	if err != nil {
		return err
	}
	tracer, err := zipkin.NewTracer(reporter, zipkin.WithLocalEndpoint(local))
	if err != nil {
		return err
	}
	if call != "" {
		return callOnce(tracer, call)
	}
	service := endpoints{info: answerInfo, list: answerList}
	if forward != "" {
		if service, err = remote(tracer, forward); err != nil {
			return err
		}
	}
	return serve(tracer, listen, service)
}

// The two methods, whoever answers them.
type endpoints struct{ info, list endpoint.Endpoint }

func answerInfo(_ context.Context, request any) (any, error) {
	return &book.BookInfo{BookId: request.(*book.BookInfoParams).BookId, BookName: "Go"}, nil
}

func answerList(context.Context, any) (any, error) {
	return &book.BookList{BookList: []*book.BookInfo{{BookId: 1, BookName: "Go"}}}, nil
}

func remote(tracer *zipkin.Tracer, address string) (endpoints, error) {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return endpoints{}, err
	}
	trace := kitzipkin.GRPCClientTrace(tracer)
	method := func(name string, reply any) endpoint.Endpoint {
		return kitgrpc.NewClient(conn, "BookService", name, asIs, asIs, reply, trace).Endpoint()
	}
	return endpoints{method("GetBookInfo", &book.BookInfo{}), method("GetBookList", &book.BookList{})}, nil
}

// Requests and answers are the messages themselves.
func asIs(_ context.Context, message any) (any, error) { return message, nil }

type server struct {
	book.UnimplementedBookServiceServer
	info, list *kitgrpc.Server
}

func (s *server) GetBookInfo(ctx context.Context, request *book.BookInfoParams) (*book.BookInfo, error) {
	return served[*book.BookInfo](s.info.ServeGRPC(ctx, request))
}

func (s *server) GetBookList(ctx context.Context, request *book.BookListParams) (*book.BookList, error) {
	return served[*book.BookList](s.list.ServeGRPC(ctx, request))
}

func served[Answer any](_ context.Context, answer any, err error) (Answer, error) {
	found, _ := answer.(Answer)
	return found, err
}

func serve(tracer *zipkin.Tracer, listen string, service endpoints) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	trace := kitzipkin.GRPCServerTrace(tracer)
	wire := grpc.NewServer(grpc.UnaryInterceptor(kitgrpc.Interceptor))
	book.RegisterBookServiceServer(wire, &server{
		info: kitgrpc.NewServer(service.info, asIs, asIs, trace),
		list: kitgrpc.NewServer(service.list, asIs, asIs, trace),
	})
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	go func() {
		<-stop.Done()
		wire.GracefulStop()
	}()
	fmt.Println("ready")
	return wire.Serve(listener)
}

func callOnce(tracer *zipkin.Tracer, address string) error {
	service, err := remote(tracer, address)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	root, ctx := tracer.StartSpanFromContext(ctx, "caller")
	defer root.Finish()
	if _, err = service.info(ctx, &book.BookInfoParams{BookId: 1}); err != nil {
		return err
	}
	if _, err = service.list(ctx, &book.BookListParams{}); err != nil {
		return err
	}
	fmt.Println("trace", root.Context().TraceID)
	return nil
}

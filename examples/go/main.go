// One second of speech in, JPEG files out: go run . HOST:PORT MODEL FILE.wav FOLDER
package main

import (
	"bytes"
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/grpc"

	pb "lipsync/v1"
)

func main() {
	address, model, wav, folder := os.Args[1], os.Args[2], os.Args[3], os.Args[4]
	// TLS: grpc.WithTransportCredentials(credentials.NewTLS(nil)). These calls are old enough for every grpc-go 1.x.
	connection, err := grpc.Dial(address, grpc.WithInsecure(),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(50<<20)))
	check(err)
	defer connection.Close()
	file, err := os.ReadFile(wav)
	check(err)
	plain := []byte("\x01\x00\x01\x00\x80\x3e\x00\x00\x00\x7d\x00\x00\x02\x00\x10\x00data")
	if len(file) < 46 || string(file[:4]) != "RIFF" || !bytes.Equal(file[20:40], plain) {
		log.Fatalf("%s: this example takes 16-bit mono WAV files of 16 kHz with a plain header of 44 bytes", wav)
	}
	end := 44 + 2*16000
	if len(file) < end {
		end = len(file)
	}
	speech := &pb.Pcm{Samples: file[44:end], SampleRateHz: 16000}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	answer, err := pb.NewLipSyncClient(connection).InferBatchComposite(ctx, &pb.InferBatchCompositeRequest{
		ModelId: model, Audio: &pb.InferBatchCompositeRequest_Pcm{Pcm: speech}})
	check(err)
	check(os.MkdirAll(folder, 0o755))
	for n, frame := range answer.Frames {
		check(os.WriteFile(fmt.Sprintf("%s/%d.jpg", folder, n), frame.Data, 0o644))
	}
	fmt.Printf("%d frames\n", len(answer.Frames))
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

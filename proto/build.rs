fn main() -> std::io::Result<()> {
    let files = ["proto/windlass/v1/windlass.proto", "proto/windlass/v1/files.proto"];
    tonic_prost_build::configure().bytes(".").compile_protos(&files, &["proto"])?;
    // Servers of Flight are generated elsewhere, whole.
    let flight = tonic_prost_build::configure().bytes(".").build_server(false);
    flight.compile_protos(&["proto/arrow/flight.proto"], &["proto"])
}

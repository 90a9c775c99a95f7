fn main() -> std::io::Result<()> {
    let files = ["proto/windlass/v1/windlass.proto", "proto/windlass/v1/files.proto"];
    // It has the key of the cluster, which is not shown.
    let wire = tonic_prost_build::configure().bytes(".").skip_debug(["windlass.v1.Welcome"]);
    wire.compile_protos(&files, &["proto"])?;
    // Servers of Flight are generated elsewhere, whole.
    let flight = tonic_prost_build::configure().bytes(".").build_server(false);
    flight.compile_protos(&["proto/arrow/flight.proto"], &["proto"])
}

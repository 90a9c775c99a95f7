fn main() -> std::io::Result<()> {
    let files = ["proto/windlass/v1/windlass.proto", "proto/windlass/v1/files.proto"];
    tonic_prost_build::configure().bytes(".").compile_protos(&files, &["proto"])
}

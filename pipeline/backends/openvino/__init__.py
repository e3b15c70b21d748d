"""OpenVINO: compiled networks on Intel's and AMD's processors, and on Intel's GPUs and NPUs."""

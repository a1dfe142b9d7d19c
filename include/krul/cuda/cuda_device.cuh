#pragma once

#include <cuda_runtime_api.h>
// In every toolkit, but in a package of its own.
#if __has_include(<nvtx3/nvToolsExt.h>)
#include <nvtx3/nvToolsExt.h>
#endif

#include <cstddef>
#include <memory>
#include <utility>

#include "krul/cuda/cuda_call.cuh"
#include "krul/cuda/device_api.hpp"
#include "krul/cuda/device_block.cuh"

namespace krul::cuda {

/// A CUDA device. Its calls are those of the runtime, and make it the current device of the thread that calls.
class CudaDevice {
 public:
  class Stream {
   public:
    Stream() = default;
    /// The caller's own; it must outlive this.
    explicit Stream(cudaStream_t stream) : stream_(stream, [](cudaStream_t) {}) {}
    [[nodiscard]] cudaStream_t get() const { return stream_.get(); }

   private:
    friend class CudaDevice;
    Stream(cudaStream_t stream, int) : stream_(stream, [](cudaStream_t mine) { cudaStreamDestroy(mine); }) {}
    std::shared_ptr<CUstream_st> stream_;
  };
  class Event {
   private:
    friend class CudaDevice;
    std::shared_ptr<CUevent_st> event_;
  };
  template <auto Free>
  class Bytes {
   public:
    [[nodiscard]] std::byte* data() const { return bytes_.get(); }

   private:
    friend class CudaDevice;
    struct Freed {
      void operator()(std::byte* bytes) const { Free(bytes); }
    };
    std::unique_ptr<std::byte, Freed> bytes_;
  };
  /// Freeing waits for what was asked for before, on every stream of the device.
  using Memory = Bytes<cudaFree>;
  using Pinned = Bytes<cudaFreeHost>;

  /// @param index  as devices() counts them
  [[nodiscard]] static Result<CudaDevice> open(int index) {
    CudaDevice device(index);
    int count = 0;
    if (auto status =
            device.call("cudaDeviceGetAttribute",
                        [&] { return cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index); });
        !status)
      return propagate(status);
    device.multiprocessors_ = static_cast<unsigned>(count);
    return device;
  }

  [[nodiscard]] unsigned multiprocessors() const noexcept { return multiprocessors_; }
  [[nodiscard]] Result<Memory> allocate(std::size_t bytes) {
    return own<Memory>("cudaMalloc", [&](void** to) { return cudaMalloc(to, bytes); });
  }
  [[nodiscard]] Result<Pinned> pin(std::size_t bytes) {
    return own<Pinned>("cudaMallocHost", [&](void** to) { return cudaMallocHost(to, bytes); });
  }
  [[nodiscard]] Result<Stream> make_stream() {
    cudaStream_t stream = nullptr;
    auto status =
        call("cudaStreamCreateWithFlags", [&] { return cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking); });
    if (!status) return propagate(status);
    return Stream(stream, 0);
  }
  [[nodiscard]] Status copy(Stream& stream, const CopiedBytes& copy) {
    return call("cudaMemcpyAsync",
                [&] { return cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDefault, stream.get()); });
  }
  template <DeviceKernel Kernel>
  [[nodiscard]] Status launch(Stream& stream, const Kernel& kernel, const Launch& launch) {
    return call("a kernel's launch", [&] {
      run_kernel<<<launch.blocks, launch.threads, launch.shared_bytes, stream.get()>>>(kernel);
      return cudaGetLastError();
    });
  }
  [[nodiscard]] Result<Event> record(Stream& stream) {
    cudaEvent_t event = nullptr;
    auto status =
        call("cudaEventCreateWithFlags", [&] { return cudaEventCreateWithFlags(&event, cudaEventDisableTiming); });
    if (!status) return propagate(status);
    Event owned;
    owned.event_ = {event, [](cudaEvent_t mine) { cudaEventDestroy(mine); }};
    status = call("cudaEventRecord", [&] { return cudaEventRecord(event, stream.get()); });
    if (!status) return propagate(status);
    return owned;
  }
  [[nodiscard]] Status wait(Stream& stream, const Event& event) {
    return call("cudaStreamWaitEvent", [&] { return cudaStreamWaitEvent(stream.get(), event.event_.get(), 0); });
  }
  [[nodiscard]] Status synchronise(const Event& event) {
    return call("cudaEventSynchronize", [&] { return cudaEventSynchronize(event.event_.get()); });
  }
  void host_touches(const TouchedBytes&) const noexcept {}
#if __has_include(<nvtx3/nvToolsExt.h>)
  /// Ranges of NVTX, on the thread that calls.
  void begin_step(const char* name) const noexcept {
    nvtxRangePushA(name);
  }
  void end_step() const noexcept {
    nvtxRangePop();
  }
#endif

 private:
  explicit CudaDevice(int index) : index_(index) {}

  /// Makes a call on this device.
  template <class Call>
  [[nodiscard]] Status call(std::string_view name, Call&& made) const {
    const cudaError_t chosen = cudaSetDevice(index_);
    const cudaError_t result = chosen == cudaSuccess ? made() : chosen;
    if (result == cudaSuccess) return {};
    return checked(
        result, std::string(chosen == cudaSuccess ? name : "cudaSetDevice") + " on device " + std::to_string(index_));
  }
  template <class Owned, class Allocate>
  [[nodiscard]] Result<Owned> own(std::string_view name, Allocate&& allocate) const {
    void* memory = nullptr;
    if (auto status = call(name, [&] { return allocate(&memory); }); !status) return propagate(status);
    Owned owned;
    owned.bytes_.reset(static_cast<std::byte*>(memory));
    return owned;
  }

  int index_;
  unsigned multiprocessors_ = 0;
};
static_assert(DeviceApi<CudaDevice>);

}  // namespace krul::cuda

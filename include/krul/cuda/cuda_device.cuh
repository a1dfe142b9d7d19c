#pragma once

#include <cuda_runtime_api.h>

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
  /// Freeing waits for what was asked for before, on every stream of the device.
  class Memory {
   public:
    [[nodiscard]] std::byte* data() const { return bytes_.get(); }

   private:
    friend class CudaDevice;
    struct Free {
      void operator()(std::byte* bytes) const { cudaFree(bytes); }
    };
    std::unique_ptr<std::byte, Free> bytes_;
  };
  class Pinned {
   public:
    [[nodiscard]] std::byte* data() const { return bytes_.get(); }

   private:
    friend class CudaDevice;
    struct Free {
      void operator()(std::byte* bytes) const { cudaFreeHost(bytes); }
    };
    std::unique_ptr<std::byte, Free> bytes_;
  };

  /// @param index  as devices() counts them
  [[nodiscard]] static Result<CudaDevice> open(int index) {
    CudaDevice device(index);
    if (auto status = device.use(); !status) return propagate(status);
    return device;
  }

  [[nodiscard]] Result<Memory> allocate(std::size_t bytes) {
    void* memory = nullptr;
    if (auto status = use(); !status) return propagate(status);
    if (auto status = call(cudaMalloc(&memory, bytes), "cudaMalloc"); !status) return propagate(status);
    Memory owned;
    owned.bytes_.reset(static_cast<std::byte*>(memory));
    return owned;
  }
  [[nodiscard]] Result<Pinned> pin(std::size_t bytes) {
    void* memory = nullptr;
    if (auto status = use(); !status) return propagate(status);
    if (auto status = call(cudaMallocHost(&memory, bytes), "cudaMallocHost"); !status) return propagate(status);
    Pinned owned;
    owned.bytes_.reset(static_cast<std::byte*>(memory));
    return owned;
  }
  [[nodiscard]] Result<Stream> make_stream() {
    cudaStream_t stream = nullptr;
    if (auto status = use(); !status) return propagate(status);
    auto status = call(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreateWithFlags");
    if (!status) return propagate(status);
    return Stream(stream, 0);
  }
  [[nodiscard]] Status copy(Stream& stream, const CopiedBytes& copy) {
    if (auto status = use(); !status) return status;
    return call(cudaMemcpyAsync(copy.to, copy.from, copy.bytes, cudaMemcpyDefault, stream.get()), "cudaMemcpyAsync");
  }
  template <DeviceKernel Kernel>
  [[nodiscard]] Status launch(Stream& stream, const Kernel& kernel, const Launch& launch) {
    if (auto status = use(); !status) return status;
    run_kernel<<<launch.blocks, launch.threads, launch.shared_bytes, stream.get()>>>(kernel);
    return call(cudaGetLastError(), "a kernel's launch");
  }
  [[nodiscard]] Result<Event> record(Stream& stream) {
    cudaEvent_t event = nullptr;
    if (auto status = use(); !status) return propagate(status);
    auto status = call(cudaEventCreateWithFlags(&event, cudaEventDisableTiming), "cudaEventCreateWithFlags");
    if (!status) return propagate(status);
    Event owned;
    owned.event_ = {event, [](cudaEvent_t mine) { cudaEventDestroy(mine); }};
    if (status = call(cudaEventRecord(event, stream.get()), "cudaEventRecord"); !status) return propagate(status);
    return owned;
  }
  [[nodiscard]] Status wait(Stream& stream, const Event& event) {
    return call(cudaStreamWaitEvent(stream.get(), event.event_.get(), 0), "cudaStreamWaitEvent");
  }
  [[nodiscard]] Status synchronise(const Event& event) {
    return call(cudaEventSynchronize(event.event_.get()), "cudaEventSynchronize");
  }
  void host_touches(const TouchedBytes&) const noexcept {}

 private:
  explicit CudaDevice(int index) : index_(index) {}

  [[nodiscard]] Status use() const { return call(cudaSetDevice(index_), "cudaSetDevice"); }

  [[nodiscard]] Status call(cudaError_t result, std::string_view name) const {
    return checked(result, std::string(name) + " on device " + std::to_string(index_));
  }

  int index_;
};
static_assert(DeviceApi<CudaDevice>);

}  // namespace krul::cuda

#pragma once

namespace krul::cuda {

/// A device that tells a profiler what the host is asking it for.
template <class D>
concept NamesSteps = requires(D& device, const char* name) {
  device.begin_step(name);
  device.end_step();
};

/// A step's name, as a restore's timeline has it, for as long as the host asks for the step. Nothing where the device
/// tells nobody.
template <class Device>
class StepRange {
 public:
  /// @param device  kept by reference
  StepRange(Device& device, [[maybe_unused]] const char* name) : device_(device) {
    if constexpr (NamesSteps<Device>) device_.begin_step(name);
  }
  StepRange(const StepRange&) = delete;
  StepRange& operator=(const StepRange&) = delete;
  ~StepRange() {
    if constexpr (NamesSteps<Device>) device_.end_step();
  }

 private:
  [[maybe_unused]] Device& device_;
};

}  // namespace krul::cuda

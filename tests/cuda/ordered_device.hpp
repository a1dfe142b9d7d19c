#pragma once

#include <algorithm>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "cuda/fibre_grid.hpp"
#include "krul/cuda/device_api.hpp"

namespace krul::cuda::test {

/// Two operations touch the same bytes, one of them to change them, and nothing says which comes first.
struct Unordered : std::logic_error {
  using std::logic_error::logic_error;
};

/// A device on the host. Kernels run as fibres. Operations run as late as somebody waits for them, in an order of all
/// streams that chance draws from those that are allowed. And each is compared, when it is asked for, with all before
/// it that touch the same bytes: if neither a stream nor an event orders the two, that is an error in every order.
///
/// Streams and the host each count their operations; a clock says how many of each come before an operation. Several
/// threads may call: they are one host, in the order of their calls.
class OrderedDevice {
 public:
  static constexpr std::size_t never = ~std::size_t{0};
  using Clock = std::vector<std::size_t>;  ///< [actors]; the host is actor 0
  struct Stream {
    std::size_t actor = 0;
  };
  struct Event {
    Clock clock;
    std::size_t actor = 0, after = 0;  ///< operations of that stream
  };
  class Memory {
   public:
    Memory(OrderedDevice& device, std::size_t bytes)
        : bytes_(static_cast<float*>(::operator new (bytes + 1, std::align_val_t{64})), Free{&device, bytes}) {}
    [[nodiscard]] std::byte* data() const { return reinterpret_cast<std::byte*>(bytes_.get()); }

   private:
    struct Free {
      OrderedDevice* device;
      std::size_t bytes;
      void operator()(float* memory) const {
        const std::scoped_lock lock(device->mutex_);
        device->finish();
        std::erase_if(device->accesses_, [&](const Access& access) {
          return overlap(access.touched, {memory, bytes});
        });
        ::operator delete (memory, std::align_val_t{64});
      }
    };
    std::unique_ptr<float[], Free> bytes_;
  };
  using Pinned = Memory;

  /// @param left_out  the so-manieth wait that is left out, to see whether it is missed; none: a number that is not
  ///                  reached
  explicit OrderedDevice(std::uint64_t seed, std::size_t left_out = never)
      : random_(seed), left_out_(left_out), actors_(1) {}

  [[nodiscard]] unsigned multiprocessors() const { return 4; }
  [[nodiscard]] Result<Memory> allocate(std::size_t bytes) {
    if (allocations_++ == failing_allocation_) return fail(ErrorCode::no_space, "out of memory");
    if (auto status = call(); !status) return propagate(status);
    return Memory(*this, bytes);
  }
  [[nodiscard]] Result<Pinned> pin(std::size_t bytes) {
    if (auto status = call(); !status) return propagate(status);
    return Pinned(*this, bytes);
  }

  /// The so-manieth allocation from now on fails, and no other.
  void fail_allocation(std::size_t number) { allocations_ = 0, failing_allocation_ = number; }
  /// Allocations since then.
  [[nodiscard]] std::size_t allocations() const { return allocations_; }
  /// The so-manieth call from now on fails, and all after it: another program has poisoned the context.
  void fail_from(std::size_t number) { calls_ = 0, failing_from_ = number; }
  [[nodiscard]] std::size_t calls() const { return calls_; }
  [[nodiscard]] Result<Stream> make_stream() {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return propagate(status);
    actors_.emplace_back();
    return Stream{actors_.size() - 1};
  }
  [[nodiscard]] Status copy(Stream& stream, const CopiedBytes& copy) {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return status;
    add(stream, {{copy.from, copy.bytes, false}, {copy.to, copy.bytes, true}},
        [copy] { std::memcpy(copy.to, copy.from, copy.bytes); });
    copied_ += copy.bytes;
    return {};
  }
  template <DeviceKernel Kernel>
  [[nodiscard]] Status launch(Stream& stream, const Kernel& kernel, const Launch& launch) {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return status;
    std::vector<TouchedBytes> touched;
    kernel.touched([&](const TouchedBytes& each) { touched.push_back(each); });
    add(stream, touched, [kernel, launch, seed = random_()] { run_grid(kernel, launch, seed); });
    return {};
  }
  [[nodiscard]] Result<Event> record(Stream& stream) {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return propagate(status);
    const Actor& actor = actors_[stream.actor];
    return Event{actor.clock, stream.actor, actor.asked};
  }
  [[nodiscard]] Status wait(Stream& stream, const Event& event) {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return status;
    if (waits_++ == left_out_) return {};
    Actor& actor = actors_[stream.actor];
    join(actor.clock, event.clock);
    actor.queue.push_back({{}, event.actor, event.after});
    return {};
  }
  [[nodiscard]] Status synchronise(const Event& event) {
    const std::scoped_lock lock(mutex_);
    if (auto status = call(); !status) return status;
    if (waits_++ == left_out_) return {};
    while (actors_[event.actor].done < event.after) run_one();
    join(actors_[0].clock, event.clock);
    // What the host has waited for comes before all that is asked for from now on.
    std::erase_if(accesses_, [&](const Access& access) {
      const Clock& done = actors_[0].clock;
      return access.actor < done.size() && access.number <= done[access.actor];
    });
    return {};
  }
  void host_touches(const TouchedBytes& touched) {
    const std::scoped_lock lock(mutex_);
    order(0, {touched});
  }

  /// Bytes that copies were asked for.
  [[nodiscard]] std::size_t copied() const { return copied_; }
  /// How many waits were asked for.
  [[nodiscard]] std::size_t waits() const { return waits_; }
  /// Runs what is left.
  void finish() {
    const std::scoped_lock lock(mutex_);
    while (std::ranges::any_of(actors_, [](const Actor& actor) { return !actor.queue.empty(); })) run_one();
  }

 private:
  struct Operation {
    std::function<void()> run;  ///< none: a wait
    std::size_t awaited = 0, after = 0;
  };
  struct Actor {
    std::deque<Operation> queue;
    std::size_t asked = 0, done = 0;  ///< operations, without waits
    Clock clock;
  };
  struct Access {
    TouchedBytes touched;
    std::size_t actor, number;
  };

  [[nodiscard]] Status call() {
    if (calls_++ >= failing_from_) return fail(ErrorCode::backend, "the device has failed");
    return {};
  }

  static void join(Clock& clock, const Clock& other) {
    clock.resize(std::max(clock.size(), other.size()));
    for (std::size_t i = 0; i < other.size(); ++i) clock[i] = std::max(clock[i], other[i]);
  }

  /// Takes an operation's place in its actor's order, after what it must come after.
  void order(std::size_t of, const std::vector<TouchedBytes>& touched) {
    Actor& actor = actors_[of];
    // What the host did before it asked is done.
    join(actor.clock, actors_[0].clock);
    actor.clock.resize(std::max(actor.clock.size(), actors_.size()));
    const std::size_t number = ++actor.clock[of];
    for (const TouchedBytes& mine : touched)
      for (const Access& other : accesses_)
        if (other.actor != of && (mine.written || other.touched.written) && overlap(mine, other.touched) &&
            actor.clock[other.actor] < other.number)
          throw Unordered("operation " + std::to_string(number) + " of actor " + std::to_string(of) + " and " +
                          std::to_string(other.number) + " of actor " + std::to_string(other.actor) +
                          " touch the same bytes in no order");
    if (of == 0) return;  // what comes later comes after it in any case
    for (const TouchedBytes& mine : touched)
      if (mine.bytes > 0) remember({mine, of, number});
  }
  /// Only the last of the same accesses of a stream.
  void remember(const Access& access) {
    const auto same = std::ranges::find_if(accesses_, [&](const Access& other) {
      return other.actor == access.actor && other.touched.begin == access.touched.begin &&
             other.touched.bytes == access.touched.bytes && other.touched.written == access.touched.written;
    });
    if (same != accesses_.end()) {
      same->number = access.number;
      return;
    }
    accesses_.push_back(access);
  }
  static bool overlap(const TouchedBytes& a, const TouchedBytes& b) {
    const auto *const p = static_cast<const std::byte*>(a.begin), *const q = static_cast<const std::byte*>(b.begin);
    return p < q + b.bytes && q < p + a.bytes;
  }

  void add(Stream& stream, const std::vector<TouchedBytes>& touched, std::function<void()> run) {
    order(stream.actor, touched);
    Actor& actor = actors_[stream.actor];
    ++actor.asked;
    actor.queue.push_back({std::move(run)});
  }

  void run_one() {
    std::vector<std::size_t> can;
    for (std::size_t i = 0; i < actors_.size(); ++i) {
      const auto& queue = actors_[i].queue;
      if (!queue.empty() && (queue.front().run || actors_[queue.front().awaited].done >= queue.front().after))
        can.push_back(i);
    }
    if (can.empty()) throw std::logic_error("streams wait for each other");
    Actor& actor = actors_[can[random_() % can.size()]];
    const Operation operation = std::move(actor.queue.front());
    actor.queue.pop_front();
    if (!operation.run) return;
    operation.run();
    ++actor.done;
  }

  std::recursive_mutex mutex_;
  std::mt19937_64 random_;
  std::size_t left_out_, waits_ = 0, copied_ = 0, allocations_ = 0, failing_allocation_ = never, calls_ = 0,
                         failing_from_ = never;
  std::vector<Actor> actors_;
  std::vector<Access> accesses_;
};
static_assert(DeviceApi<OrderedDevice>);

}  // namespace krul::cuda::test

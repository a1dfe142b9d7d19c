#pragma once

#include <algorithm>
#include <array>
#include <boost/context/fiber.hpp>
#include <boost/context/pooled_fixedsize_stack.hpp>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <optional>
#include <random>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "krul/core/half.hpp"
#include "krul/cuda/device_api.hpp"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace krul::cuda::test {

/// Tells the address sanitizer, where there is one, that another stack is in use.
class StackSwitch {
 public:
  struct Stack {
    const void* bottom = nullptr;
    std::size_t size = 0;
  };

  /// What ended on this stack before has left no trace.
  static void begin([[maybe_unused]] const Stack& stack) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(stack.bottom, stack.size);
#endif
  }
  /// @param kept  what arrive wants once this stack is in use again; null: it never is
  /// @param to    where it goes on
  static void leave([[maybe_unused]] void** kept, [[maybe_unused]] const Stack& to) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(kept, to.bottom, to.size);
#endif
  }
  /// @param from  becomes the stack that was left
  static void arrive([[maybe_unused]] void* kept, [[maybe_unused]] Stack* from) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(kept, from ? &from->bottom : nullptr, from ? &from->size : nullptr);
#endif
  }
};

/// A kernel's threads as fibres of one block, which one thread of the host runs. A fibre runs until it meets others;
/// which one goes on then is drawn by chance. So what one thread reads of another without having met it is seen before
/// it was written in some orders. Shared memory begins as garbage.
class FibreTeam {
 public:
  struct Shape {
    unsigned index = 0, blocks = 1, threads = warp_lanes;
    std::size_t shared_bytes = 0;
  };

  /// Where one fibre runs.
  class Block {
   public:
    Block(FibreTeam& team, unsigned thread) : team_(&team), thread_(thread) {}
    [[nodiscard]] unsigned index() const { return team_->shape_.index; }
    [[nodiscard]] unsigned blocks() const { return team_->shape_.blocks; }
    [[nodiscard]] unsigned thread() const { return thread_; }
    [[nodiscard]] unsigned threads() const { return team_->shape_.threads; }
    [[nodiscard]] std::byte* shared() const { return team_->shared_.data(); }
    void sync() { team_->wait(thread_, {.at = At::barrier}); }
    [[nodiscard]] std::uint32_t ballot(bool flag) {
      return team_->wait(thread_, {.at = At::ballot, .value = flag ? 1U : 0U});
    }
    [[nodiscard]] std::uint32_t shuffle(std::uint32_t value, unsigned lane) {
      return team_->wait(thread_, {.at = At::shuffle, .value = value, .lane = lane});
    }
    void add_tile_product(ElementType half, const TileLeft& left, const TileRight& right, TileSums& sums) {
      const Fragments fragments{half, &left, &right, &sums};
      team_->wait(thread_, {.at = At::product, .fragments = &fragments});
    }

   private:
    FibreTeam* team_;
    unsigned thread_;
  };
  static_assert(KernelBlock<Block>);

  /// Runs one block of a kernel.
  /// @throws std::logic_error if threads wait for some that never come; whatever a thread throws
  template <class Kernel>
  static void run(const Kernel& kernel, const Shape& shape, std::mt19937_64& random) {
    FibreTeam team(shape, random);
    team.run_all([&kernel](Block& block) { kernel(block); });
  }

 private:
  enum class At : std::uint8_t { ready, barrier, ballot, shuffle, product, done };
  /// What a lane brings to a product, on its own stack.
  struct Fragments {
    ElementType half;
    const TileLeft* left;
    const TileRight* right;
    TileSums* sums;
  };
  struct Wait {
    At at = At::ready;
    std::uint32_t value = 0;
    unsigned lane = 0;
    const Fragments* fragments = nullptr;
  };
  struct Stopped {};  ///< another thread has failed
  using Fibre = boost::context::fiber;

  FibreTeam(const Shape& shape, std::mt19937_64& random)
      : shape_(shape),
        random_(random),
        shared_(shape.shared_bytes),
        waits_(shape.threads),
        answers_(shape.threads),
        stacks_(shape.threads),
        fibres_(shape.threads),
        callers_(shape.threads) {
    if (shape.threads == 0 || shape.threads % warp_lanes != 0) throw std::logic_error("a block has whole warps");
    for (std::byte& each : shared_) each = static_cast<std::byte>(random());
    begin_all();
  }

  template <class Body>
  void run_all(Body body) {
    for (unsigned thread = 0; thread < shape_.threads; ++thread) fibres_[thread] = fibre(thread, body);
    try {
      while (resume_any() || let_a_warp_go() || hurry() || let_all_go())
        if (thrown_) std::rethrow_exception(thrown_);
    } catch (...) {
      // The others end where they wait.
      stopped_ = true;
      for (unsigned thread = 0; thread < shape_.threads; ++thread)
        if (waits_[thread].at != At::done) resume(thread);
      throw;
    }
  }

  template <class Body>
  Fibre fibre(unsigned thread, const Body& body) {
    // Used again and again: new ones would take longer than most kernels.
    thread_local boost::context::pooled_fixedsize_stack stacks(64 << 10);
    const auto stack = stacks.allocate();
    stacks_[thread] = {static_cast<const char*>(stack.sp) - stack.size, stack.size};
    StackSwitch::begin(stacks_[thread]);
    return Fibre(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack), stacks,
                 [this, thread, &body](Fibre&& caller) {
                   StackSwitch::arrive(nullptr, &main_);
                   callers_[thread] = std::move(caller);
                   try {
                     Block block(*this, thread);
                     if (!stopped_) body(block);
                   } catch (const Stopped&) {
                   } catch (...) {
                     thrown_ = std::current_exception();
                   }
                   waits_[thread].at = At::done;
                   StackSwitch::leave(nullptr, main_);
                   return std::move(callers_[thread]);
                 });
  }

  void resume(unsigned thread) {
    void* kept = nullptr;
    StackSwitch::leave(&kept, stacks_[thread]);
    fibres_[thread] = std::move(fibres_[thread]).resume();
    StackSwitch::arrive(kept, nullptr);
  }

  /// @return false if none can go on
  bool resume_any() {
    if (ready_.empty()) return false;
    std::swap(ready_[random_() % ready_.size()], ready_.back());
    const unsigned thread = ready_.back();
    ready_.pop_back();
    resume(thread);
    return true;
  }

  /// Called by a fibre: until the others have come.
  std::uint32_t wait(unsigned thread, const Wait& what) {
    waits_[thread] = what;
    void* kept = nullptr;
    StackSwitch::leave(&kept, main_);
    callers_[thread] = std::move(callers_[thread]).resume();
    StackSwitch::arrive(kept, &main_);
    if (stopped_) throw Stopped();
    return answers_[thread];
  }

  /// Lets a warp go on that waits for nobody else.
  bool let_a_warp_go() {
    // One at a time: else warps that do alike would never be apart.
    const auto start = static_cast<unsigned>(random_() % (shape_.threads / warp_lanes) * warp_lanes);
    for (unsigned apart = 0; apart < shape_.threads; apart += warp_lanes)
      if (let_warp_go((start + apart) % shape_.threads)) return true;
    return false;
  }
  /// The warp that was held back goes on, as nobody else can.
  bool hurry() {
    slow_ = none;
    std::swap(ready_, held_);
    return resume_any();
  }
  /// Lets all go on from a barrier.
  /// @return false if all are done
  bool let_all_go() {
    const auto at = [&](At place) {
      return std::ranges::count_if(waits_, [&](const Wait& wait) { return wait.at == place; });
    };
    if (at(At::done) == std::ptrdiff_t{shape_.threads}) return false;
    if (at(At::barrier) != std::ptrdiff_t{shape_.threads})
      throw std::logic_error("threads wait for others that never come: " + std::to_string(at(At::barrier)) +
                             " at a barrier, " + std::to_string(at(At::done)) + " have ended");
    begin_all();
    return true;
  }
  void begin_all() {
    // One warp may stay where it is until the others come to the next barrier, however often their lanes meet.
    slow_ = random_() % 2 == 0 ? none : static_cast<unsigned>(random_() % (shape_.threads / warp_lanes));
    for (unsigned thread = 0; thread < shape_.threads; ++thread) make_ready(thread);
  }

  bool let_warp_go(unsigned first) {
    const At place = waits_[first].at;
    if (place != At::ballot && place != At::shuffle && place != At::product) return false;
    std::uint32_t votes = 0;
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
      const Wait& wait = waits_[first + lane];
      if (wait.at != place) return false;
      votes |= wait.value << lane % warp_lanes;
    }
    if (place == At::product) multiply_tiles(first);
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
      const Wait& wait = waits_[first + lane];
      answers_[first + lane] = place == At::ballot ? votes : waits_[first + wait.lane % warp_lanes].value;
    }
    for (unsigned lane = 0; lane < warp_lanes; ++lane) make_ready(first + lane);
    return true;
  }
  void make_ready(unsigned thread) {
    waits_[thread].at = At::ready;
    (thread / warp_lanes == slow_ ? held_ : ready_).push_back(thread);
  }

  /// Products of halves are exact in f32; they are added in the order of the columns of left.
  void multiply_tiles(unsigned first) {
    std::array<std::array<float, 16>, 16> left;
    std::array<std::array<float, 8>, 16> right, sums;
    for (unsigned lane = 0; lane < warp_lanes; ++lane) {
      const Fragments& mine = *waits_[first + lane].fragments;
      if (mine.half != waits_[first].fragments->half || mine.half == ElementType::f32)
        throw std::logic_error("lanes multiply halves of one type");
      const auto unpack = [&](std::uint32_t word, unsigned upper) {
        const auto half = static_cast<std::uint16_t>(word >> 16 * upper);
        return mine.half == ElementType::f16 ? float_from_f16(half) : float_from_bf16(half);
      };
      const unsigned r = lane / 4, c = 2 * (lane % 4);
      for (unsigned i = 0; i < 4; ++i)
        for (unsigned j = 0; j < 2; ++j) left[r + i % 2 * 8][c + i / 2 * 8 + j] = unpack(mine.left->words[i], j);
      for (unsigned i = 0; i < 2; ++i)
        for (unsigned j = 0; j < 2; ++j) right[c + i * 8 + j][r] = unpack(mine.right->words[i], j);
    }
    for_sums(first, [&](float& mine, unsigned row, unsigned column) { sums[row][column] = mine; });
    for (unsigned row = 0; row < 16; ++row)
      for (unsigned k = 0; k < 16; ++k)
        for (unsigned column = 0; column < 8; ++column) sums[row][column] += left[row][k] * right[k][column];
    for_sums(first, [&](float& mine, unsigned row, unsigned column) { mine = sums[row][column]; });
  }

  /// Calls visit(sum, row, column) for all sums of a warp's tile.
  template <class Visit>
  void for_sums(unsigned first, Visit visit) {
    for (unsigned lane = 0; lane < warp_lanes; ++lane)
      for (unsigned i = 0; i < 4; ++i)
        visit(waits_[first + lane].fragments->sums->values[i], lane / 4 + i / 2 * 8, 2 * (lane % 4) + i % 2);
  }

  Shape shape_;
  std::mt19937_64& random_;
  std::vector<std::byte> shared_;
  std::vector<Wait> waits_;
  std::vector<std::uint32_t> answers_;
  static constexpr unsigned none = ~0U;
  unsigned slow_ = none;                // a warp that is held back
  std::vector<unsigned> ready_, held_;  // threads that can go on, and those of the slow warp
  std::vector<StackSwitch::Stack> stacks_;
  StackSwitch::Stack main_;
  std::vector<Fibre> fibres_, callers_;
  std::exception_ptr thrown_;
  bool stopped_ = false;
};

/// Runs all blocks of a kernel, in an order that the seed draws.
template <class Kernel>
void run_grid(const Kernel& kernel, const Launch& launch, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<unsigned> order(launch.blocks);
  for (unsigned i = 0; i < launch.blocks; ++i) order[i] = i;
  std::shuffle(order.begin(), order.end(), random);
  for (const unsigned index : order)
    FibreTeam::run(kernel, {index, launch.blocks, launch.threads, launch.shared_bytes}, random);
}

}  // namespace krul::cuda::test

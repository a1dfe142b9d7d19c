#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "krul/cuda/kernels/paged_rows.hpp"
#include "krul/cuda/paged_pool.hpp"
#include "krul/cuda/row_book.hpp"
#include "krul/cuda/row_order.hpp"
#include "krul/cuda/touching.hpp"

namespace krul::cuda {

/// A KvCache over pages that an engine owns: one conversation's. The engine says which pages hold its rows, in order;
/// their numbers are copied, as engines move their own tables about.
///
/// Who touches the rows is put in order as RowOrder says, with the engine's kernels as Rows::computed. So it is for
/// pages that go from one conversation to another: `begin(Rows::computed, stream)` of the cache that had them, then
/// `end(Rows::computed, stream)` of the one that gets them. A device's failure is thrown as ResultError: the cache
/// commits nothing then.
template <DeviceApi Device>
class PagedKvCache : public RowOrder<Device>, public RowBook {
 public:
  using RowOrder<Device>::begin, RowOrder<Device>::end;

  /// Has no pages yet, and so no room for rows.
  /// @param most_pages  that it can ever have
  /// @throws ResultError if the device has no memory for so many numbers
  PagedKvCache(std::shared_ptr<PagedPool<Device>> pool, std::size_t most_pages)
      : RowOrder<Device>(pool->device()),
        RowBook(pool->geometry(), 0),
        pool_(std::move(pool)),
        most_pages_(most_pages),
        table_(or_throw(pool_->device().allocate(most_pages * sizeof(std::int32_t)))),
        places_(pool_->layout().places(pool_->geometry(), reinterpret_cast<std::int32_t*>(table_.data()))) {}

  /// More rows have room.
  /// @param numbers  as the layout counts pages
  /// @throws PreconditionError if there is no such page, or no room for its number; ResultError
  void append_pages(std::span<const std::int32_t> numbers) {
    expects(numbers.size() <= most_pages_ - pages_.size(), "PagedKvCache: more pages than were asked for");
    for (const std::int32_t page : numbers)
      expects(page >= 0 && static_cast<std::size_t>(page) < pool_->layout().pages, "PagedKvCache: no such page");
    begin(Rows::copied, ring().stream());
    ring().to_device(table_.data() + pages_.size() * sizeof(std::int32_t), std::as_bytes(numbers));
    end(Rows::copied, ring().stream());
    pages_.insert(pages_.end(), numbers.begin(), numbers.end());
    set_capacity(pages_.size() * page_tokens());
  }
  /// Only the first `count` pages are still this conversation's: rows in others are forgotten.
  void keep_pages(std::size_t count) {
    pages_.resize(std::min(count, pages_.size()));
    set_capacity(pages_.size() * page_tokens());
  }
  [[nodiscard]] std::span<const std::int32_t> pages() const noexcept { return pages_; }

  /// Does not need the spans any more when it returns, nor wait() for rows to count as present.
  /// @throws PreconditionError if the range exceeds the capacity or the spans do not hold exactly its rows; ResultError
  Ticket write_kv(std::size_t layer, TokenRange tokens, KvRows from) {
    check(layer, tokens, from);
    begin(Rows::copied, ring().stream());
    for_pieces(tokens, [&](TokenRange piece) {
      const std::size_t at = (piece.begin - tokens.begin) * row_bytes(), bytes = piece.size() * row_bytes();
      ring().to_device(pool_->room(), from.keys.subspan(at, bytes));
      ring().to_device(pool_->room() + bytes, from.values.subspan(at, bytes));
      launch(ScatterRows{paged(layer, piece)}, layer, piece);
    });
    end(Rows::copied, ring().stream());
    mark_present(layer, tokens);
    return {};
  }

  /// @throws PreconditionError as write_kv, and if a row is not present; ResultError
  Ticket read_kv(std::size_t layer, TokenRange tokens, MutableKvRows to) const {
    check_present(layer, tokens, to);
    begin(Rows::copied, ring().stream());
    for_pieces(tokens, [&](TokenRange piece) {
      const std::size_t at = (piece.begin - tokens.begin) * row_bytes(), bytes = piece.size() * row_bytes();
      launch(GatherRows{paged(layer, piece)}, layer, piece);
      ring().from_device(to.keys.subspan(at, bytes), pool_->room());
      ring().from_device(to.values.subspan(at, bytes), pool_->room() + bytes);
    });
    end(Rows::copied, ring().stream());
    return {};
  }
  /// Waits for all reads so far.
  /// @throws ResultError, and then none of them comes any more
  void wait(Ticket) const { ring().finish_reads(); }

  /// Where page 0 of a layer begins, for kernels between begin and end.
  [[nodiscard]] std::byte* keys(std::size_t layer) const { return pool_->layout().keys.at(layer); }
  [[nodiscard]] std::byte* values(std::size_t layer) const { return pool_->layout().values.at(layer); }

  /// Places of its rows from a token on, from keys(layer) and values(layer).
  [[nodiscard]] RowPlaces places(std::size_t token) const { return places_.from(token); }
  /// Calls visit(TouchedBytes) for what kernels touch that write rows of a layer. Of a page all between two rows.
  template <class Visit>
  void touched(std::size_t layer, TokenRange tokens, Visit&& visit) const {
    visit(TouchedBytes{table_.data(), pages_.size() * sizeof(std::int32_t), false});
    const std::size_t last_head = (row_bytes() / places_.run_bytes - 1) * places_.run_stride;
    for (std::size_t token = tokens.begin, rows = 0; token < tokens.end; token += rows) {
      const std::size_t in_page = token % page_tokens();
      rows = std::min(page_tokens() - in_page, tokens.end - token);
      const std::size_t at = static_cast<std::size_t>(pages_[token / page_tokens()]) * places_.page_stride +
                             in_page * places_.token_stride;
      for (std::byte* const page : {keys(layer), values(layer)})
        visit(TouchedBytes{page + at, last_head + (rows - 1) * places_.token_stride + places_.run_bytes, true});
    }
  }

 private:
  [[nodiscard]] StagingRing<Device>& ring() const noexcept { return pool_->ring(); }
  [[nodiscard]] std::size_t page_tokens() const noexcept { return pool_->layout().page_tokens; }

  /// Calls visit(TokenRange) for ranges that the room holds.
  template <class Visit>
  void for_pieces(TokenRange tokens, Visit&& visit) const {
    for (std::size_t token = tokens.begin; token < tokens.end; token += pool_->room_rows())
      visit(TokenRange{token, std::min(token + pool_->room_rows(), tokens.end)});
  }
  [[nodiscard]] PagedRows paged(std::size_t layer, TokenRange tokens) const {
    return {places(tokens.begin),
            keys(layer),
            values(layer),
            pool_->room(),
            static_cast<std::uint32_t>(tokens.size()),
            static_cast<std::uint32_t>(row_bytes())};
  }
  template <class Kernel>
  void launch(const Kernel& kernel, std::size_t layer, TokenRange tokens) const {
    std::vector<TouchedBytes> all{{pool_->room(), 2 * tokens.size() * row_bytes(), true}};
    touched(layer, tokens, [&](const TouchedBytes& each) { all.push_back(each); });
    constexpr unsigned warps = 2;
    const auto blocks = static_cast<unsigned>((2 * tokens.size() + warps - 1) / warps);
    or_throw(pool_->device().launch(ring().stream(), Touching{kernel, std::span<const TouchedBytes>(all)},
                                    {blocks, warps * warp_lanes}));
  }

  std::shared_ptr<PagedPool<Device>> pool_;
  std::size_t most_pages_;
  typename Device::Memory table_;
  RowPlaces places_;
  std::vector<std::int32_t> pages_;  // as the table holds them
};

}  // namespace krul::cuda

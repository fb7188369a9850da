/*
 * talea for C++11 and later: the calls of talea.h with RAII and exceptions. Header only. The namespace
 * is taleapp, because `talea` is the struct of the C header.
 *
 *	taleapp::Context t;                                   // attaches; an absent daemon is no error
 *	auto reqs = t.counter("demo_requests_total", "Requests served.", {{"app", "demo"}});
 *	++reqs;                                             // inline, never throws
 *	reqs += 10;
 *
 * Handles are values, as in C: copy them freely, they outlive the context. A declaration that fails
 * throws taleapp::Error; declare with the _nothrow twins to keep the handle that counts in overflow.
 */
#ifndef TALEA_HPP
#define TALEA_HPP

#include <talea.h>

#include <initializer_list>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace taleapp {

/* A failed call: code is the -errno, what() says what failed and what to do. */
class Error : public std::runtime_error {
public:
	Error(int code, const std::string &what) : std::runtime_error(what), code_(code) {}
	int code() const noexcept { return code_; }

private:
	int code_;
};

using Labels = std::initializer_list<std::pair<const char *, const char *>>;

/* A counter's handle. Adding is wait-free and safe wherever talea_add is. */
class Counter {
public:
	Counter() noexcept : c_(TALEA_COUNTER_INIT) {}
	explicit Counter(struct talea_counter c) noexcept : c_(c) {}
	Counter &operator++() noexcept { talea_inc(c_); return *this; }
	Counter &operator+=(uint64_t n) noexcept { talea_add(c_, n); return *this; }
	struct talea_counter handle() const noexcept { return c_; }

private:
	struct talea_counter c_;
};

/* A level's handle. */
class Level {
public:
	Level() noexcept : l_(TALEA_LEVEL_INIT) {}
	explicit Level(struct talea_level l) noexcept : l_(l) {}
	Level &operator++() noexcept { talea_level_add(l_, 1); return *this; }
	Level &operator--() noexcept { talea_level_add(l_, -1); return *this; }
	Level &operator+=(int64_t n) noexcept { talea_level_add(l_, n); return *this; }
	Level &operator-=(int64_t n) noexcept { talea_level_add(l_, -n); return *this; }
	struct talea_level handle() const noexcept { return l_; }

private:
	struct talea_level l_;
};

/* A family of counters by text or by number. add() counts in `other` when a key cannot be had. */
class Family {
public:
	explicit Family(struct talea_family f) noexcept : f_(f) {}
	int add(const std::string &key, uint64_t n = 1) noexcept
	{
		return talea_family_add(&f_, key.data(), key.size(), n);
	}
	int add(uint64_t key, uint64_t n = 1) noexcept
	{
		return talea_family_add(&f_, &key, sizeof(key), n);
	}
	Counter get(const std::string &key)
	{
		struct talea_counter c = TALEA_COUNTER_INIT;
		int err = talea_family_get(&f_, key.data(), key.size(), &c);

		if (err)
			throw Error(err, talea_strerror(nullptr, err));
		return Counter(c);
	}

private:
	struct talea_family f_;
};

/* An attachment; closed at the end of its life. Move-only. */
class Context {
public:
	explicit Context(const struct talea_options *opt = nullptr) : t_(nullptr)
	{
		int err = talea_open(&t_, opt);

		if (err) {
			std::string what = talea_strerror(t_, err);

			talea_close(t_);
			throw Error(err, what);
		}
	}
	~Context() { talea_close(t_); }
	Context(const Context &) = delete;
	Context &operator=(const Context &) = delete;
	Context(Context &&other) noexcept : t_(other.t_) { other.t_ = nullptr; }
	Context &operator=(Context &&other) noexcept
	{
		std::swap(t_, other.t_);
		return *this;
	}

	Counter counter(const char *name, const char *help, Labels labels = {})
	{
		struct talea_counter c = TALEA_COUNTER_INIT;

		check(talea_counter_v(t_, &c, name, help, flat(labels).data()));
		return Counter(c);
	}
	Counter counter_nothrow(const char *name, const char *help, Labels labels = {})
	{
		struct talea_counter c = TALEA_COUNTER_INIT;

		talea_counter_v(t_, &c, name, help, flat(labels).data());
		return Counter(c);
	}
	Level level(const char *name, const char *help, Labels labels = {})
	{
		struct talea_level l = TALEA_LEVEL_INIT;

		check(talea_level_v(t_, &l, name, help, 0, flat(labels).data()));
		return Level(l);
	}
	Level level_nothrow(const char *name, const char *help, Labels labels = {})
	{
		struct talea_level l = TALEA_LEVEL_INIT;

		talea_level_v(t_, &l, name, help, 0, flat(labels).data());
		return Level(l);
	}
	/* label: "post" for text keys, "post:u64" for numbers. */
	Family family(const char *name, const char *help, const char *label)
	{
		struct talea_family f = { nullptr };

		check(talea_family(t_, &f, name, help, label));
		return Family(f);
	}

	/* Everything added before is in the totals afterwards. */
	void sync(int timeout_ms = 1000) { check(talea_sync(t_, timeout_ms)); }
	int64_t read(Counter c, enum talea_how how = TALEA_COMPACTED)
	{
		struct talea_total n = {};

		n.size = sizeof(n);
		check(talea_read(t_, c.handle(), how, 0, &n));
		return n.value;
	}
	int64_t read(Level l, enum talea_how how = TALEA_COMPACTED)
	{
		struct talea_total n = {};

		n.size = sizeof(n);
		check(talea_read_level(t_, l.handle(), how, 0, &n));
		return n.value;
	}
	struct talea *handle() const noexcept { return t_; }

private:
	void check(int err)
	{
		if (err)
			throw Error(err, talea_strerror(t_, err));
	}
	static std::vector<const char *> flat(Labels labels)
	{
		std::vector<const char *> v;

		for (const auto &l : labels) {
			v.push_back(l.first);
			v.push_back(l.second);
		}
		v.push_back(nullptr);
		return v;
	}

	struct talea *t_;
};

} /* namespace taleapp */

#endif

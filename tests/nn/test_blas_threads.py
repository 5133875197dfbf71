from threadpoolctl import threadpool_info, threadpool_limits

from tgscale.nn.blas_threads import single_threaded_blas


def threads():
    return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"}


def test_the_first_in_limits_and_the_last_out_sets_back():
    with threadpool_limits(2, user_api="blas"):
        before = threads()
        with single_threaded_blas:
            assert threads() == {1}
            with single_threaded_blas:
                assert threads() == {1}
            assert threads() == {1}
        assert threads() == before
